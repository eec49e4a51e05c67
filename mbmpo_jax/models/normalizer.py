"""Statistics of what a dynamics model reads and predicts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting

# A dimension this steady, relative to its size, is a constant plus rounding.
_STEADY = 1e-6


class Moments(NamedTuple):
  """Mean and standard deviation per dimension."""

  mean: jax.Array  # [D]
  std: jax.Array  # [D], 0 for a dimension that does not vary


def fit(samples: jax.Array, mask: jax.Array) -> Moments:
  """Moments of the rows of `samples` [B, D] where `mask` [B] is 1.

  Two passes, the second about the mean: exact where |mean| >> std. A dimension
  with std < 1e-6 * (1 + |mean|) gets std 0.

  Example:
    >>> samples = jnp.array([[1.0, 5.0], [3.0, 5.0], [9.0, 9.0]])
    >>> moments = fit(samples, mask=jnp.array([1.0, 1.0, 0.0]))
    >>> moments.mean.tolist(), moments.std.tolist()
    ([2.0, 5.0], [1.0, 0.0])
    >>> standardize(moments, samples[:2]).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
  """
  count = jnp.maximum(jnp.sum(mask), 1)
  live = mask[:, None] > 0
  mean = jnp.sum(jnp.where(live, samples, 0.0), 0) / count
  deviation = jnp.where(live, samples - mean[None], 0.0)
  std = jnp.sqrt(jnp.sum(jnp.square(deviation), 0) / count)
  return Moments(mean, jnp.where(std < _STEADY * (1 + abs(mean)), 0.0, std))


def identity(size: int) -> Moments:
  """The moments under which `standardize` changes nothing."""
  return Moments(jnp.zeros(size), jnp.ones(size))


def scale(moments: Moments) -> jax.Array:
  """What samples are divided by, [D]: std, or 1 where nothing varies."""
  return jnp.where(moments.std > 0, moments.std, 1.0)


def standardize(moments: Moments, samples: jax.Array) -> jax.Array:
  """(x - mean) / scale of `samples` [..., D]."""
  mean, divisor = (
    broadcasting.leading(x, samples.ndim)
    for x in (moments.mean, scale(moments))
  )
  return (samples - mean) / divisor
