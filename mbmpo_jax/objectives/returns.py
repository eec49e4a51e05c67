"""Discounted returns and advantages.

One task at a time, time-major `[T, N]`; `jax.vmap` over tasks. `mask` is 1
where a rollout was alive before the step; masked entries weigh nothing and may
hold anything, NaN included. `terminated` is 1 where a step ended an episode:
what follows it in the rollout, if anything, is another one.
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
  """R_t = r_t + gamma R_{t+1}, with R = 0 after an episode.

  Args:
    rewards: r, `[T, N]`.
    mask: `[T, N]`.
    terminated: `[T, N]`.
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
  """Generalised advantages (Schulman et al. 2016, eq. 16).

  A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V_{t+1} - V_t,
  where V_{t+1} is zero after a terminal step, and A_{t+1} wherever an episode
  ended. A time limit ends an episode, but the world would have gone on: what is
  beyond it counts as V of the last observation.

  Args:
    rewards: r, `[T, N]`.
    values: V, `[T, N]`.
    mask: `[T, N]`.
    terminated: `[T, N]`.
    discount: gamma.
    gae_lambda: lambda.
    next_values: V of the observation that each step led to, before any reset,
      `[T, N]`; by default that of the next step, and zero after the last one.
    ended: `[T, N]`, 1. where an episode ended for any reason; `terminated`, by
      default.

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

  Where all advantages are smaller than 1, the 1e-8 is of the largest: rewards
  may be in any unit.
  """
  centred = masking.live(advantages - masking.mean(advantages, mask), mask)
  size = jax.lax.stop_gradient(jnp.max(jnp.abs(masking.live(advantages, mask))))
  # Squares of small numbers would be lost; a power of two rounds nothing.
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
  """Standardised advantages `[T, N]` over a baseline fitted on the same data.

  Args:
    trajectory: one task's, `[T, N, ...]`.
    discount: gamma.
    gae_lambda: lambda.
    ridge: of the baseline.
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
  """y_t = x_t + discount * y_{t+1}, y_{t+1} = 0 where t ends an episode."""

  def step(
    later: jax.Array, now: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    x_t, ends = now
    total = x_t + discount * jnp.where(ends > 0, 0.0, later)
    return total, total

  start = jnp.zeros_like(x[0])
  return jax.lax.scan(step, start, (x, terminated), reverse=True)[1]
