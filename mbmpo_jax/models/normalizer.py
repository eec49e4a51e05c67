"""Statistics of what a dynamics model reads and predicts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import broadcasting

# Twice what rounding a difference of two numbers in single precision makes of
# it, relative to these: a deviation below is that of a constant.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


class Moments(NamedTuple):
  """Mean and standard deviation per dimension."""

  mean: jax.Array  # [D]
  std: jax.Array  # [D], 0 for a dimension that does not vary


def fit(
  samples: jax.Array, mask: jax.Array, *, size: jax.Array | None = None
) -> Moments:
  """Moments of the rows of `samples` [B, D] where `mask` [B] is 1.

  Two passes, the second about the mean: exact where |mean| >> std. A dimension
  whose std is no more than what rounding in single precision makes gets 0: at
  most 4.8e-7 of its size. What is measured in other units is as steady.

  Args:
    samples: `[B, D]`.
    mask: `[B]`.
    size: of the numbers that the samples were computed from, `[D]`, as of the
      observations whose differences they are; by default, the largest sample.

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
  # Squares of small numbers would be lost; a power of two rounds nothing.
  peak = jnp.max(jnp.abs(deviation), 0)
  unit = jnp.ldexp(jnp.ones_like(peak), jnp.frexp(peak)[1])
  squares = jnp.square(deviation / unit[None])
  std = unit * jnp.sqrt(jnp.sum(squares, 0) / count)
  if size is None:
    size = largest(samples, mask)
  return Moments(mean, jnp.where(std <= _ROUNDING * size, 0.0, std))


def largest(samples: jax.Array, mask: jax.Array) -> jax.Array:
  """max |x| [D] of the rows of `samples` [B, D] where `mask` [B] is 1."""
  return jnp.max(jnp.where(mask[:, None] > 0, jnp.abs(samples), 0.0), 0)


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
