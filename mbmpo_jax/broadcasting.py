"""Explicit broadcasting, so that the package runs under strict rank promotion.

`jax_numpy_rank_promotion='raise'` finds arrays that broadcast by accident.
"""

import jax
import jax.numpy as jnp


def leading(x: jax.Array, ndim: int) -> jax.Array:
  """Returns `x` with leading axes of size 1 added, up to `ndim` axes."""
  return jnp.expand_dims(x, tuple(range(ndim - x.ndim)))


def trailing(x: jax.Array, ndim: int) -> jax.Array:
  """Returns `x` with trailing axes of size 1 added, up to `ndim` axes."""
  return jnp.expand_dims(x, tuple(range(x.ndim, ndim)))
