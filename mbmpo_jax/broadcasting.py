"""Explicit broadcasting, so that the package runs under strict rank promotion.

`jax_numpy_rank_promotion='raise'` finds arrays that broadcast by accident.
"""

import jax
import jax.numpy as jnp


def leading(x: jax.Array, ndim: int) -> jax.Array:
  """`x` with axes of size 1 put in front, up to `ndim` axes."""
  return jnp.expand_dims(x, tuple(range(ndim - x.ndim)))


def trailing(x: jax.Array, ndim: int) -> jax.Array:
  """`x` with axes of size 1 put behind, up to `ndim` axes."""
  return jnp.expand_dims(x, tuple(range(x.ndim, ndim)))
