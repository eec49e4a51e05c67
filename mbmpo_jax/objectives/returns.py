"""Discounted returns and advantages.

All functions take one task, time-major `[T, N]`; use `jax.vmap` over tasks.
`mask` is 1 where a rollout was alive before the step; masked entries are
ignored and may hold anything, NaN included. `terminated` is 1 where a step
ended an episode; the rollout's later steps, if any, belong to another episode.
"""

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.objectives import baseline

_EPSILON = 1e-8


def discounted_returns(
  rewards: jax.Array,
  mask: jax.Array,
  terminated: jax.Array,
  *,
  discount: jax.Array | float,
) -> jax.Array:
  """R_t = r_t + gamma R_{t+1}, where R_{t+1} = 0 if step t ends an episode.

  Args:
    rewards: r, `[T, N]`.
    mask: 1 for live steps, `[T, N]`.
    terminated: 1 where a step ended an episode, `[T, N]`.
    discount: gamma.

  Returns:
    R, `[T, N]`, zero where masked.

  Example:
    One rollout in which the second of four steps ends an episode:

    >>> ones, end = jnp.ones((4, 1)), jnp.array([[0.0], [1.0], [0.0], [0.0]])
    >>> discounted_returns(ones, ones, end, discount=0.5)[:, 0].tolist()
    [1.5, 1.0, 1.5, 1.0]
  """
  return _discounted_sum(masking.live(rewards, mask), terminated, discount)


def gae(
  rewards: jax.Array,
  values: jax.Array,
  mask: jax.Array,
  terminated: jax.Array,
  *,
  discount: jax.Array | float,
  gae_lambda: jax.Array | float,
  next_values: jax.Array | None = None,
  ended: jax.Array | None = None,
) -> jax.Array:
  """Generalised advantage estimates (Schulman et al. 2016, eq. 16).

  A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V_{t+1} - V_t.
  V_{t+1} is zero after a terminal step. A_{t+1} is zero wherever an episode
  ended. After a time limit the environment would have continued, so the rewards
  beyond it are estimated by V of the last observation.

  Args:
    rewards: r, `[T, N]`.
    values: V, `[T, N]`.
    mask: 1 for live steps, `[T, N]`.
    terminated: 1 where a step reached a terminal state, `[T, N]`.
    discount: gamma.
    gae_lambda: lambda.
    next_values: V_{t+1}, the value of the observation after each step and
      before any reset, `[T, N]`. By default the value at the next row, and zero
      after the last row.
    ended: `[T, N]`, 1. where an episode ended for any reason; by default equal
      to `terminated`.

  Returns:
    A, `[T, N]`, zero where masked.

  Example:
    The same step, cut by a time limit and by a termination:

    >>> one, end = jnp.ones((1, 1)), jnp.ones((1, 1))
    >>> settings = dict(discount=0.5, gae_lambda=1.0, next_values=8 * one)
    >>> gae(one, 0 * one, one, 0 * end, ended=end, **settings).item()
    5.0
    >>> gae(one, 0 * one, one, end, ended=end, **settings).item()
    1.0
  """
  values = masking.live(values, mask)
  if next_values is None:
    next_values = jnp.concatenate([values[1:], jnp.zeros_like(values[:1])])
  next_values = jnp.where(terminated > 0, 0.0, masking.live(next_values, mask))
  deltas = masking.live(rewards, mask) + discount * next_values - values
  return _discounted_sum(
    deltas, terminated if ended is None else ended, discount * gae_lambda
  )


def standardize(advantages: jax.Array, mask: jax.Array) -> jax.Array:
  """(A - mean) / (std + 1e-8) over live steps; zero where masked.

  If all advantages are smaller than 1 in magnitude, 1e-8 is multiplied by the
  largest magnitude, so that the result does not depend on the reward's unit.
  """
  centred = masking.live(advantages - masking.mean(advantages, mask), mask)
  # The rounding error of the mean, which is all there is of equal advantages.
  centred = masking.live(centred - masking.mean(centred, mask), mask)
  size = jax.lax.stop_gradient(jnp.max(jnp.abs(masking.live(advantages, mask))))
  # Squares of small numbers underflow; scaling by a power of two is exact.
  unit = jnp.ldexp(jnp.ones_like(size), jnp.frexp(size)[1])
  std = unit * jnp.sqrt(masking.mean(jnp.square(centred / unit), mask))
  least = _EPSILON * jnp.where(size > 0, jnp.minimum(size, 1.0), 1.0)
  return centred / (std + least)


def advantages(
  trajectory: types.Trajectory,
  *,
  discount: jax.Array | float,
  gae_lambda: jax.Array | float,
  ridge: jax.Array | float,
) -> jax.Array:
  """Standardised advantages `[T, N]` with a baseline fitted on the same data.

  Args:
    trajectory: of one task, `[T, N, ...]`.
    discount: gamma.
    gae_lambda: lambda.
    ridge: the baseline's penalty, see `baseline.fit`.
  """
  rewards, obs = trajectory.reward, trajectory.obs
  mask, terminated = trajectory.mask, trajectory.terminated
  targets = discounted_returns(rewards, mask, terminated, discount=discount)
  phi = baseline.features(obs, mask, terminated)
  fitted = baseline.fit(phi, targets, mask, ridge=ridge)
  unscaled = gae(
    rewards,
    baseline.predict(fitted, phi),
    mask,
    terminated,
    discount=discount,
    gae_lambda=gae_lambda,
  )
  return standardize(unscaled, mask)


def _discounted_sum(
  x: jax.Array, terminated: jax.Array, discount: jax.Array | float
) -> jax.Array:
  """y_t = x_t + discount * y_{t+1}; y_{t+1} = 0 if step t ends an episode."""

  def step(
    later: jax.Array, now: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    x_t, ends = now
    total = x_t + discount * jnp.where(ends > 0, 0.0, later)
    return total, total

  start = jnp.zeros_like(x[0])
  return jax.lax.scan(step, start, (x, terminated), reverse=True)[1]
