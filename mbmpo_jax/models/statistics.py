"""What a dynamics model knows of the data that it was fitted to."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base
from mbmpo_jax.models import normalizer

# Wide enough for any state worth imagining, small enough to square.
WIDEST = 1e6
# Of the largest number observed, where that is more.
_BEYOND = 1e3


class Statistics(NamedTuple):
  """Of the inputs [B, I] and targets [B, O] that a model is fitted to."""

  inputs: normalizer.Moments  # of [model_input(obs), action], [I]
  targets: normalizer.Moments  # of next_obs - obs, [O]
  low: jax.Array  # [O], the least prediction allowed; never infinite
  high: jax.Array  # [O], the greatest
  reward: normalizer.Moments | None = None  # [1], for models that predict it
  # [1] each, the least and the greatest reward that a model may predict.
  reward_low: jax.Array | None = None
  reward_high: jax.Array | None = None
  starts: Any = None  # `starts.Starts`, where a model says how episodes begin


def fit(
  inputs: jax.Array,
  targets: jax.Array,
  next_obs: jax.Array,
  valid: jax.Array,
  *,
  clip_margin: float | None,
  reward: jax.Array | None = None,
  bound_reward: bool = False,
) -> Statistics:
  """The statistics of the rows where `valid` [B] is 1.

  The bounds are the range of `next_obs`, widened by `clip_margin` times its
  width:

    low = min - margin (max - min),  high = max + margin (max - min),

  but +-1e6, or a thousand times the largest number there is, without a margin,
  and in a dimension that no step ever changes: a goal may be anywhere. They are
  NaN, so that nothing can be imagined, where fewer than two rows are valid.

  Args:
    inputs: `[B, I]`.
    targets: `[B, O]`.
    next_obs: `[B, O]`.
    valid: `[B]`; the other rows may hold anything.
    clip_margin: see above; `None` is without.
    reward: `[B]`, for models that predict it.
    bound_reward: whether its predictions are to be bounded like these.
  """
  chex.assert_rank([inputs, targets, next_obs, valid], [2, 2, 2, 1])
  chex.assert_equal_shape([targets, next_obs])
  chex.assert_equal_shape_prefix([inputs, targets, valid], 1)
  # Targets may be differences of observations, and are as exact as these.
  size = normalizer.largest(next_obs, valid)
  moments = normalizer.fit(targets, valid, size=size)
  low, high = _bounds(next_obs, moments, valid, clip_margin)
  of_reward = reward_low = reward_high = None
  if reward is not None:
    of_reward = normalizer.fit(reward[:, None], valid)
    if bound_reward:
      reward_low, reward_high = _bounds(
        reward[:, None], of_reward, valid, clip_margin
      )
  return Statistics(
    inputs=normalizer.fit(inputs, valid),
    targets=moments,
    low=low,
    high=high,
    reward=of_reward,
    reward_low=reward_low,
    reward_high=reward_high,
  )


def _bounds(
  values: jax.Array,
  moments: normalizer.Moments,
  valid: jax.Array,
  clip_margin: float | None,
) -> tuple[jax.Array, jax.Array]:
  """The least and the greatest prediction allowed of `values` [B, D]."""
  known = jnp.sum(valid) > 1
  unbounded = jnp.where(known, jnp.inf, jnp.nan).astype(values.dtype)
  infinite = jnp.full(values.shape[-1], unbounded)
  low, high = -infinite, infinite
  if clip_margin is not None:
    live = valid[:, None] > 0
    least = jnp.min(jnp.where(live, values, jnp.inf), 0)
    greatest = jnp.max(jnp.where(live, values, -jnp.inf), 0)
    margin = clip_margin * (greatest - least)
    steady = moments.std == 0
    low = jnp.where(steady, low, least - margin)
    high = jnp.where(steady, high, greatest + margin)
  widest = jnp.maximum(WIDEST, _BEYOND * normalizer.largest(values, valid))
  return jnp.maximum(low, -widest), jnp.minimum(high, widest)


def identity(
  input_size: int, output_size: int, *, reward: bool = False
) -> Statistics:
  """Those under which a model is what its parameters say: nothing scaled.

  Args:
    input_size: I.
    output_size: O.
    reward: whether the model predicts rewards, too.
  """
  widest = jnp.full(output_size, WIDEST, float)
  return Statistics(
    inputs=normalizer.identity(input_size),
    targets=normalizer.identity(output_size),
    low=-widest,
    high=widest,
    reward=normalizer.identity(1) if reward else None,
  )


def before_data(env: base.Environment) -> Statistics:
  """`identity` for models of this environment."""
  return identity(input_size(env), env.observation_size)


def input_size(env: base.Environment) -> int:
  """How many numbers a model of this environment reads, I."""
  obs = jnp.zeros(env.observation_size)
  return jax.eval_shape(env.model_input, obs).shape[-1] + env.action_size
