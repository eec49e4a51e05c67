"""Standardisation of a dynamics model's inputs and targets by moments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import broadcasting

# Twice the relative rounding error of a difference of two single-precision
# numbers. A dimension with a smaller relative deviation counts as constant.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


class Moments(NamedTuple):
  """Mean and standard deviation per dimension."""

  mean: jax.Array  # [D]
  std: jax.Array  # [D], 0 for a dimension that does not vary


def fit(
  samples: jax.Array, mask: jax.Array, *, size: jax.Array | None = None
) -> Moments:
  """Moments of the rows of `samples` [B, D] where `mask` [B] is 1.

  Computed in two passes, the second about the mean, which is accurate where
  |mean| >> std. If a dimension's std is at most 4.8e-7 of its size, it may be
  due to rounding in single precision, and is set to 0. This rule does not
  depend on the unit of the dimension.

  Args:
    samples: `[B, D]`.
    mask: `[B]`.
    size: magnitude `[D]` of the numbers from which the samples were computed,
      such as observations if the samples are their differences. By default the
      largest magnitude of the samples.

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
  # Squares of small numbers underflow; scaling by a power of two is exact.
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
  """Moments for which `standardize` changes nothing."""
  return Moments(jnp.zeros(size), jnp.ones(size))


def scale(moments: Moments) -> jax.Array:
  """The divisor of `standardize`, [D]: std, or 1 for a constant dimension."""
  return jnp.where(moments.std > 0, moments.std, 1.0)


def standardize(moments: Moments, samples: jax.Array) -> jax.Array:
  """(x - mean) / scale of `samples` [..., D]."""
  mean, divisor = (
    broadcasting.leading(x, samples.ndim)
    for x in (moments.mean, scale(moments))
  )
  return (samples - mean) / divisor
