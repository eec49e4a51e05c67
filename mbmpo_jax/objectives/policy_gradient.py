"""What a policy gradient climbs, for any policy that has a density.

Of one policy on rollouts T with advantages A, the old policy being the one that
sampled them,

  surrogate(theta) = mean_T pi_theta(a|s) / pi_old(a|s) A,
  kl(theta)        = mean_T KL(pi_old || pi_theta),

means over live steps; masked ones may hold anything. Its derivatives are in
`optim/fisher.py`.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions


def over(
  policy: base.Policy, params: types.Params, trajectory: types.Trajectory
) -> distributions.Distribution:
  """The policy's distribution [T, N] at the steps of `trajectory`.

  Finite at masked steps, too, whatever these hold.

  Raises:
    ValueError: if the policy has no density.
  """
  if policy.over is None:
    raise ValueError('policy: has no density, so there is no policy gradient')
  return policy.over(params, masking.live_steps(trajectory))


def log_likelihood(
  dist: distributions.Distribution,
  trajectory: types.Trajectory,
  advantages: jax.Array,
) -> jax.Array:
  """mean_T log pi(a|s) A, a scalar.

  Args:
    dist: pi at the steps of the trajectory, of `over`.
    trajectory: T, `[T, N, ...]`.
    advantages: A, `[T, N]`.
  """
  mask = trajectory.mask
  log_prob = dist.log_prob(masking.live(trajectory.action, mask))
  return masking.mean(log_prob * masking.live(advantages, mask), mask)


def likelihood_ratio(
  dist: distributions.Distribution,
  trajectory: types.Trajectory,
  advantages: jax.Array,
) -> jax.Array:
  """mean_T pi(a|s) / pi_old(a|s) A, a scalar.

  With the log-probabilities of pi_old as they are stored in the trajectory;
  arguments as of `log_likelihood`.
  """
  mask = trajectory.mask
  log_prob = dist.log_prob(masking.live(trajectory.action, mask))
  ratio = jnp.exp(log_prob - masking.live(trajectory.log_prob, mask))
  return masking.mean(ratio * masking.live(advantages, mask), mask)


def surrogate(
  dist: distributions.Distribution,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  entropy_coef: jax.Array | float = 0.0,
) -> jax.Array:
  """`likelihood_ratio` and `entropy_coef` times the mean entropy, a scalar."""
  gain = likelihood_ratio(dist, trajectory, advantages)
  return gain + entropy_coef * mean_entropy(dist, trajectory.mask)


def mean_entropy(
  dist: distributions.Distribution, mask: jax.Array
) -> jax.Array:
  """The mean entropy over live steps, a scalar; `mask` is [T, N]."""
  return masking.mean(jnp.broadcast_to(dist.entropy(), mask.shape), mask)


def mean_kl(
  old: distributions.Distribution,
  new: distributions.Distribution,
  mask: jax.Array,
) -> jax.Array:
  """The mean KL(old || new) over live steps, a scalar; `mask` is [T, N]."""
  return masking.mean(jnp.broadcast_to(old.kl(new), mask.shape), mask)


def surrogate_and_kl(
  policy: base.Policy,
  old_params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  entropy_coef: jax.Array | float = 0.0,
) -> Callable[[types.Params], tuple[jax.Array, jax.Array]]:
  """The objective of a policy step and its trust region.

  Args:
    policy: with a density.
    old_params: of the policy that the kl is from.
    trajectory: T, `[T, N, ...]`; its log-probabilities are the ratio's pi_old.
    advantages: A, `[T, N]`.
    entropy_coef: weight of the mean entropy in the surrogate.

  Returns:
    theta -> (surrogate, kl), as `trpo.trpo_step` takes it.
  """
  chex.assert_rank([trajectory.obs, trajectory.action], 3)
  chex.assert_equal_shape([trajectory.mask, trajectory.log_prob, advantages])
  old = over(policy, old_params, trajectory)

  def objective(params: types.Params) -> tuple[jax.Array, jax.Array]:
    new = over(policy, params, trajectory)
    gain = surrogate(new, trajectory, advantages, entropy_coef=entropy_coef)
    return gain, mean_kl(old, new, trajectory.mask)

  return objective
