"""Statistics of the data to which a dynamics model was fitted."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base
from mbmpo_jax.models import normalizer

# Bound of predictions: wide enough for any sensible state, but its square is
# finite.
WIDEST = 1e6
# The bound is at least this multiple of the largest observed number.
_BEYOND = 1e3


class Statistics(NamedTuple):
  """Statistics of the inputs [B, I] and targets [B, O] of a model's fit."""

  inputs: normalizer.Moments  # of [model_input(obs), action], [I]
  targets: normalizer.Moments  # of the targets y, see `targets.of`, [O]
  low: jax.Array  # [O], lower bounds of predictions; always finite
  high: jax.Array  # [O], upper bounds of predictions
  reward: normalizer.Moments | None = None  # [1], for models that predict it
  # [1] each, lower and upper bound of predicted rewards.
  reward_low: jax.Array | None = None
  reward_high: jax.Array | None = None
  starts: Any = None  # `starts.Starts`, for models that sample starts


def fit(
  inputs: jax.Array,
  targets: jax.Array,
  next_obs: jax.Array,
  valid: jax.Array,
  *,
  clip_margin: float | None,
  reward: jax.Array | None = None,
) -> Statistics:
  """The statistics of the rows where `valid` [B] is 1.

  The bounds are the range of `next_obs` and of the reward, widened by
  `clip_margin` times its width:

    low = min - margin (max - min),  high = max + margin (max - min).

  Without a margin they are +-1e6, or +- a thousand times the largest number in
  the data if that is more. The same holds for a dimension that no step ever
  changes, such as a goal. If fewer than two rows are valid, the bounds are NaN,
  so that nothing can be imagined.

  Args:
    inputs: `[B, I]`.
    targets: `[B, O]`.
    next_obs: `[B, O]`.
    valid: `[B]`; the other rows may hold anything.
    clip_margin: see above; `None` for no margin.
    reward: `[B]`, for models that predict rewards.
  """
  chex.assert_rank([inputs, targets, next_obs, valid], [2, 2, 2, 1])
  chex.assert_equal_shape([targets, next_obs])
  chex.assert_equal_shape_prefix([inputs, targets, valid], 1)
  # Targets may be differences of observations, with their rounding errors.
  size = normalizer.largest(next_obs, valid)
  moments = normalizer.fit(targets, valid, size=size)
  low, high = _bounds(next_obs, moments, valid, clip_margin)
  of_reward = reward_low = reward_high = None
  if reward is not None:
    of_reward = normalizer.fit(reward[:, None], valid)
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
  """Lower and upper bounds of predictions of `values` [B, D]."""
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
  """Statistics that scale nothing, with bounds of +-1e6.

  Args:
    input_size: I.
    output_size: O.
    reward: whether the model predicts rewards.
  """
  widest = jnp.full(output_size, WIDEST, float)
  of_reward = jnp.full(1, WIDEST, float)
  return Statistics(
    inputs=normalizer.identity(input_size),
    targets=normalizer.identity(output_size),
    low=-widest,
    high=widest,
    reward=normalizer.identity(1) if reward else None,
    reward_low=-of_reward if reward else None,
    reward_high=of_reward if reward else None,
  )


def before_data(env: base.Environment) -> Statistics:
  """`identity` for models of this environment."""
  return identity(input_size(env), env.observation_size)


def input_size(env: base.Environment) -> int:
  """The number of inputs of a model of this environment, I."""
  obs = jnp.zeros(env.observation_size)
  return jax.eval_shape(env.model_input, obs).shape[-1] + env.action_size
