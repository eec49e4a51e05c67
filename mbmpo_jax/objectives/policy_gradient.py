"""Policy-gradient objectives for any policy that has a density.

For a policy pi_theta on rollouts T with advantages A, sampled by pi_old,

  surrogate(theta) = mean_T pi_theta(a|s) / pi_old(a|s) A,
  kl(theta)        = mean_T KL(pi_old || pi_theta).

The means are over live steps; masked steps may hold anything. The derivatives
are in `optim/fisher.py`.
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

  It is finite at masked steps too, whatever values they hold.

  Raises:
    ValueError: if the policy has no density.
  """
  if policy.over is None:
    raise ValueError('policy: has no density: must have `over`')
  return policy.over(params, masking.live_steps(trajectory))


def log_likelihood(
  dist: distributions.Distribution,
  trajectory: types.Trajectory,
  advantages: jax.Array,
) -> jax.Array:
  """mean_T log pi(a|s) A, a scalar.

  Args:
    dist: pi at the steps of the trajectory, from `over`.
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

  The log-probabilities of pi_old are those stored in the trajectory.

  Args:
    dist: pi at the steps of the trajectory, from `over`.
    trajectory: T, `[T, N, ...]`.
    advantages: A, `[T, N]`.
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
  """`likelihood_ratio` plus `entropy_coef` times the mean entropy, a scalar.

  The other arguments are those of `likelihood_ratio`.
  """
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
  """The objective of a policy step and its trust region, as a function.

  Args:
    policy: must have a density.
    old_params: parameters of the policy from which the KL is measured.
    trajectory: T, `[T, N, ...]`. The ratio's pi_old is given by its stored
      log-probabilities.
    advantages: A, `[T, N]`.
    entropy_coef: weight of the mean entropy in the surrogate.

  Returns:
    A function theta -> (surrogate, kl), an input of `trpo.trpo_step`.
  """
  chex.assert_rank([trajectory.obs, trajectory.action], 3)
  chex.assert_equal_shape([trajectory.mask, trajectory.log_prob, advantages])
  old = over(policy, old_params, trajectory)

  def objective(params: types.Params) -> tuple[jax.Array, jax.Array]:
    new = over(policy, params, trajectory)
    gain = surrogate(new, trajectory, advantages, entropy_coef=entropy_coef)
    return gain, mean_kl(old, new, trajectory.mask)

  return objective
