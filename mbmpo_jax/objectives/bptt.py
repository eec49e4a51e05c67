"""The return of a policy in a model, differentiated through time.

The objective is the mean discounted return of K particles, which start at s_0
and follow the model's predictions (Wang & van Hoof 2022, equation 12),

  J(phi) = 1/K sum_k sum_t gamma^t r(s_t, a_t, s_{t+1}),   a_t ~ pi_phi(s_t).

All samples are reparameterised: the key fixes noise, latents and dropout masks,
and the gradient flows through policy, model and reward.

Most clips pass the gradient on. Actions of a `Gaussian` or `Deterministic`
distribution are clipped to [-1, 1] with a straight-through gradient
(`straight_through.clip`). So are the predictions of the models in
`models/neural_process/` and `models/dropout.py`, and what environments clip in
`project`. A squashed action is not clipped; its squashing function is
differentiated. The ensemble's clip is an ordinary one, whose gradient is zero
outside the bounds.
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
  """The value of the objective and the number of rejected particles."""

  value: jax.Array  # J, the mean over accepted particles; 0 if there is none
  rejected: jax.Array  # number of particles left out because not finite


def never(next_obs: jax.Array) -> jax.Array:
  """A `done_fn` that ends no episode: 0 [...] for observations [..., O]."""
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
  """The discounted return of every particle in the model, [K].

  Args:
    policy: must have continuous actions.
    params: phi, the policy's parameters.
    dynamics: the model's prediction functions.
    model: of one ensemble member, from `dynamics.ready`.
    key: consumed.
    initial_obs: s_0, `[K, O]`.
    horizon: number of steps T.
    reward_fn: the environment's reward, or any differentiable one.
    discount: gamma.
    done_fn: where an episode ends; later steps of the particle earn nothing.
    context: the task's context, for policy and model.
    policy_context: the policy's context, if it differs from the model's.

  Raises:
    ValueError: if actions are discrete, or the policy is a planner.
  """
  if policy_context is None:
    policy_context = context
  return _returns(
    passing(policy, params, initial_obs, policy_context),
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
    policy_context=policy_context,
  )


def value(*args: Any, **kwargs: Any) -> jax.Array:
  """J, the mean of `returns` over particles; takes the same arguments.

  The gradient of equation 12 is the derivative in `params`, argument 1. It is
  not finite if any particle's gradient is not finite; `gradient` leaves such
  particles out.
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
  """The gradient of J in `params`, over the particles where it is finite.

  The gradient is computed separately for every particle, so that a particle
  that diverges does not spoil the others. This takes K times the memory of the
  policy's parameters. `policy.start` is not differentiated.

  Args:
    policy: must have continuous actions.
    params: phi, the policy's parameters.
    dynamics: the model's prediction functions.
    model: of one ensemble member, from `dynamics.ready`.
    key: consumed.
    initial_obs: s_0, `[K, O]`.
    horizon: number of steps T.
    reward_fn: the environment's reward, or any differentiable one.
    discount: gamma.
    done_fn: where an episode ends; later steps of the particle earn nothing.
    context: the task's context, for policy and model.
    policy_context: the policy's context, if it differs from the model's.

  Returns:
    The gradient, in the direction of ascent (0 if no particle is finite), and
    the `Info`.

  Raises:
    ValueError: if actions are discrete, or the policy is a planner.
  """
  num = initial_obs.shape[0]
  if policy_context is None:
    policy_context = context
  own = policies.per_rollout(
    passing(policy, params, initial_obs, policy_context)
  )
  own = own._replace(
    start=lambda _, key, context, num: policy.start(params, key, context, num)
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
      policy_context=policy_context,
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
  """The policy with straight-through clips of its actions.

  A policy whose actions are not clipped is returned unchanged.

  Args:
    policy: must have a distribution.
    params: the policy's parameters; only shapes are read.
    obs: `[N, O]`; only its shape is read.
    context: an input of `policy.start`; only shapes are read.

  Raises:
    ValueError: if actions are discrete, or the policy is a planner.
  """
  if policy.distribution is None:
    raise ValueError('policy: has no distribution: must have one')
  density: Callable[..., Any] = policy.distribution

  def first(params: types.Params, obs: jax.Array, context: Any) -> Any:
    carry = policy.start(params, jax.random.PRNGKey(0), context, obs.shape[0])
    return density(params, carry, obs)

  kind = jax.eval_shape(first, params, obs, context)
  if isinstance(kind, distributions.Categorical):
    raise ValueError(
      'policy: its actions are discrete and have no gradient: must be'
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
  """`returns` for a policy whose clips are straight through already."""
  chex.assert_rank(initial_obs, 2)
  trajectory = imagined.rollout(
    policy, params, dynamics, model, key, initial_obs, **kwargs
  )
  reward = jnp.where(trajectory.mask > 0, trajectory.reward, 0.0)
  weight = jnp.power(discount, jnp.arange(reward.shape[0], dtype=reward.dtype))
  return jnp.sum(reward * weight[:, None], 0)
