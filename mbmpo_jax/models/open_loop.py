"""Open-loop prediction errors: predictions are fed back into the model.

From a state of the data, with the actions of the data,

  s^_0 = s_0,   s^_{h+1} = f(s^_h, a_h).

The error of dimension d after h steps is a root mean square over windows n, in
units of the standard deviation of this dimension in the data,

  e_{h,d} = sqrt(1/N sum_n ((s^_{n,h,d} - s_{n,h,d}) / sigma_d)^2).

Two predictors without dynamics serve as a comparison: the initial state s_0,
and the mean of the data.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.models import base
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import targets as targets_lib
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import windows


class Errors(NamedTuple):
  """Errors by steps ahead, from 1; D is O, or O + 1 with predicted rewards.

  Attributes:
    model: of each member, [K, T, D].
    stays: of the constant prediction s_0, [T, D]; NaN for a reward.
    mean: of the mean of the data, [T, D].
  """

  model: jax.Array
  stays: jax.Array
  mean: jax.Array


def choose(
  buffer: buffer_lib.Buffer, key: jax.Array, *, length: int, count: int
) -> tuple[types.Transition, jax.Array]:
  """At most `count` whole windows, uniform without replacement.

  Args:
    buffer: of transitions.
    key: consumed.
    length: steps of a window, T.
    count: N, lowered to the buffer's capacity if necessary.

  Returns:
    Steps, leaves `[N, T, ...]`, oldest first, and a mask `[N]`, 0 for surplus
    rows if there are fewer whole windows.
  """
  whole = windows.whole(buffer, length=length) * buffer_lib.mask(buffer)
  rank = jnp.where(whole > 0, jax.random.uniform(key, whole.shape), -1.0)
  rank, slots = jax.lax.top_k(rank, min(count, whole.shape[0]))
  steps, _ = windows.ending(buffer, slots, length=length)
  return steps, (rank >= 0).astype(float)


def errors(
  dynamics: base.Dynamics,
  model: Any,
  steps: types.Transition,
  mask: jax.Array,
  obs: normalizer.Moments,
  reward: normalizer.Moments,
  key: jax.Array,
  *,
  change: targets_lib.Change = targets_lib.difference,
) -> Errors:
  """The open-loop errors after 1 to T steps.

  Args:
    dynamics: the functions of one member's model.
    model: of all members, leaves `[K, ...]`.
    steps: windows of consecutive steps, leaves `[N, T, ...]`.
    mask: `[N]`, 1. where a window counts; at least one must count.
    obs: moments of the data's observations, `[O]`. Constant dimensions have the
      unit 1.
    reward: moments of the data's rewards, `[1]`.
    key: consumed, by stochastic models.
    change: the environment's difference of two observations.
  """
  chex.assert_rank([steps.obs, steps.action, mask], [3, 3, 1])
  chex.assert_equal_shape_prefix([steps.obs, mask], 1)
  first, actions = steps.obs[:, 0], jnp.swapaxes(steps.action, 0, 1)
  num_models = jax.tree.leaves(model)[0].shape[0]

  def member(model: Any, key: jax.Array) -> jax.Array:
    start_key, key = jax.random.split(key)
    carry = dynamics.start(model, start_key, (), first.shape[0])

    def step(state: Any, x: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
      carry, obs = state
      action, key = x
      carry, predicted = dynamics.predict(model, carry, obs, action, key)
      seen = predicted.next_obs
      if predicted.reward is not None:
        seen = jnp.concatenate([seen, predicted.reward[:, None]], -1)
      return (carry, predicted.next_obs), seen

    keys = jax.random.split(key, actions.shape[0])
    return jax.lax.scan(step, (carry, first), (actions, keys))[1]

  predicted = jax.vmap(member)(model, jax.random.split(key, num_models))
  truth = jnp.swapaxes(steps.next_obs, 0, 1)
  mean, scale = obs.mean, normalizer.scale(obs)
  stays = first
  if predicted.shape[-1] > truth.shape[-1]:
    paid = jnp.swapaxes(steps.reward, 0, 1)[..., None]
    truth = jnp.concatenate([truth, paid], -1)
    mean = jnp.concatenate([mean, reward.mean])
    scale = jnp.concatenate([scale, normalizer.scale(reward)])
    stays = jnp.pad(first, ((0, 0), (0, 1)), constant_values=jnp.nan)

  def size(difference: jax.Array) -> jax.Array:
    """The root mean square over unmasked windows, [..., N, D] -> [..., D]."""
    scaled = difference / jnp.reshape(
      scale, (1,) * (difference.ndim - 1) + scale.shape
    )
    counts = jnp.reshape(mask, (1,) * (difference.ndim - 2) + (*mask.shape, 1))
    squares = jnp.where(counts > 0, jnp.square(scaled), 0.0)
    return jnp.sqrt(jnp.sum(squares, -2) / jnp.sum(mask))

  width = first.shape[-1]

  def apart(found: jax.Array) -> jax.Array:
    """The difference of `found` [..., T, N, D] from the true steps."""
    truths = jnp.broadcast_to(truth, found.shape)
    of_obs = change(truths[..., :width], found[..., :width])
    of_reward = found[..., width:] - truths[..., width:]
    return jnp.concatenate([of_obs, of_reward], -1)

  return Errors(
    model=size(apart(predicted)),
    stays=size(apart(jnp.broadcast_to(stays[None], truth.shape))),
    mean=size(apart(jnp.broadcast_to(mean[None, None], truth.shape))),
  )
