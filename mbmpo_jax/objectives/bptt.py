"""What a policy earns inside a model, differentiable through time.

The discounted return of K particles that start at s_0 and go on by the model's
predictions (Wang & van Hoof 2022, equation 12),

  J(phi) = 1/K sum_k sum_t gamma^t r(s_t, a_t, s_{t+1}),   a_t ~ pi_phi(s_t),

with every draw reparameterised: noise, latents and dropout masks are fixed by
the key, and the gradient runs through policy, model and reward.

Clips do not stop it. An action that is clipped to [-1, 1], as of a `Gaussian`
or a `Deterministic` distribution, is clipped straight through
(`straight_through.clip`), and so are the predictions of the models in
`models/neural_process/` and `models/dropout.py`; a squashed action has a
derivative of its own. The ensemble's clip is an ordinary one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import straight_through
from mbmpo_jax import types
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import imagined


class Info(NamedTuple):
  """What a gradient is of."""

  value: jax.Array  # J over the particles that count; 0 if none does
  rejected: jax.Array  # particles left out, as they are not finite


def never(next_obs: jax.Array) -> jax.Array:
  """0 [...] for every observation [..., O]: nothing ends an episode."""
  return jnp.zeros(next_obs.shape[:-1], next_obs.dtype)


def returns(
  policy: policies.Policy,
  params: types.Params,
  dynamics: models.Dynamics,
  model: Any,
  key: jax.Array,
  initial_obs: jax.Array,
  *,
  horizon: int,
  reward_fn: types.RewardFn,
  discount: jax.Array | float = 1.0,
  done_fn: types.DoneFn = never,
  context: Any = (),
  policy_context: Any = None,
) -> jax.Array:
  """The discounted return of every particle, [K].

  Args:
    policy: with continuous actions.
    params: phi.
    dynamics: how a model predicts.
    model: what it predicts with, one member's.
    key: consumed.
    initial_obs: `[K, O]`.
    horizon: steps T.
    reward_fn: the environment's, or any differentiable one.
    discount: gamma.
    done_fn: where an episode ends; its particle earns nothing afterwards.
    context: of the task, for policy and model.
    policy_context: for the policy, where that is something else.

  Raises:
    ValueError: if an action is a choice, or the policy a planner.
  """
  told = context if policy_context is None else policy_context
  return _returns(
    passing(policy, params, initial_obs, told),
    params,
    dynamics,
    model,
    key,
    initial_obs,
    horizon=horizon,
    reward_fn=reward_fn,
    discount=discount,
    done_fn=done_fn,
    context=context,
    policy_context=told,
  )


def value(*args: Any, **kwargs: Any) -> jax.Array:
  """J, the mean of `returns` over particles; arguments as there.

  Its gradient by `params`, argument 1, is that of equation 12. It is not finite
  if that of any particle is not: `gradient` leaves such particles out.
  """
  return jnp.mean(returns(*args, **kwargs))


def gradient(
  policy: policies.Policy,
  params: types.Params,
  dynamics: models.Dynamics,
  model: Any,
  key: jax.Array,
  initial_obs: jax.Array,
  *,
  horizon: int,
  reward_fn: types.RewardFn,
  discount: jax.Array | float = 1.0,
  done_fn: types.DoneFn = never,
  context: Any = (),
  policy_context: Any = None,
) -> tuple[types.Params, Info]:
  """The gradient of J by `params`, over the particles where it is finite.

  Every particle has a gradient of its own, so that one that diverges spoils no
  other; this takes the memory of K times the policy's parameters. What the
  policy makes of `params` in `start` is not differentiated.

  Args:
    policy: see `returns`, as all others.
    params: phi.
    dynamics: how a model predicts.
    model: what it predicts with.
    key: consumed.
    initial_obs: `[K, O]`.
    horizon: T.
    reward_fn: the environment's.
    discount: gamma.
    done_fn: where an episode ends.
    context: of the task.
    policy_context: for the policy.

  Returns:
    The gradient to climb, 0 where no particle is finite, and what it is of.

  Raises:
    ValueError: as `returns`.
  """
  num = initial_obs.shape[0]
  told = context if policy_context is None else policy_context
  own = policies.per_rollout(passing(policy, params, initial_obs, told))
  own = own._replace(
    start=lambda _, key, told, num: policy.start(params, key, told, num)
  )

  def total(tiled: types.Params) -> tuple[jax.Array, jax.Array]:
    each = _returns(
      own,
      tiled,
      dynamics,
      model,
      key,
      initial_obs,
      horizon=horizon,
      reward_fn=reward_fn,
      discount=discount,
      done_fn=done_fn,
      context=context,
      policy_context=told,
    )
    return jnp.sum(each), each

  tiled = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), params)
  grads, each = jax.grad(total, has_aux=True)(tiled)
  finite = jnp.isfinite(each)
  for leaf in jax.tree.leaves(grads):
    finite &= jnp.all(jnp.isfinite(leaf), tuple(range(1, leaf.ndim)))
  count = jnp.maximum(jnp.sum(finite), 1)

  def mean(x: jax.Array) -> jax.Array:
    kept = jnp.where(broadcasting.trailing(finite, x.ndim), x, 0.0)
    return jnp.sum(kept, 0) / count

  info = Info(mean(each), jnp.sum(~finite, dtype=each.dtype))
  return jax.tree.map(mean, grads), info


def passing(
  policy: policies.Policy, params: types.Params, obs: jax.Array, context: Any
) -> policies.Policy:
  """The policy, the clips of its actions made straight through.

  Args:
    policy: with a distribution.
    params: of it.
    obs: `[N, O]`; only its shape is read, as that of the others.
    context: what `policy.start` takes.

  Raises:
    ValueError: if an action is a choice, or the policy a planner.
  """
  if policy.distribution is None:
    raise ValueError('policy: has no distribution to differentiate')
  density: Callable[..., Any] = policy.distribution

  def first(params: types.Params, obs: jax.Array, context: Any) -> Any:
    carry = policy.start(params, jax.random.PRNGKey(0), context, obs.shape[0])
    return density(params, carry, obs)

  kind = jax.eval_shape(first, params, obs, context)
  if isinstance(kind, distributions.Categorical):
    raise ValueError(
      'policy: its actions are choices, which have no gradient; must be'
      ' continuous'
    )
  if not isinstance(kind, distributions.Gaussian | distributions.Deterministic):
    return policy

  def act(*args: Any) -> tuple[Any, policies.Action]:
    carry, action = policy.act(*args)
    env = straight_through.clip(action.raw, -1.0, 1.0)
    return carry, action._replace(env=env)

  return policy._replace(act=act)


def _returns(
  policy: policies.Policy,
  params: types.Params,
  dynamics: models.Dynamics,
  model: Any,
  key: jax.Array,
  initial_obs: jax.Array,
  *,
  discount: jax.Array | float,
  **kwargs: Any,
) -> jax.Array:
  """`returns`, of a policy whose clips pass gradients."""
  chex.assert_rank(initial_obs, 2)
  trajectory = imagined.rollout(
    policy, params, dynamics, model, key, initial_obs, **kwargs
  )
  reward = jnp.where(trajectory.mask > 0, trajectory.reward, 0.0)
  weight = jnp.power(discount, jnp.arange(reward.shape[0], dtype=reward.dtype))
  return jnp.sum(reward * weight[:, None], 0)
