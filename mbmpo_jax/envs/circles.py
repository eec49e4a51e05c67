"""Normalises cosine-sine pairs of angles in predicted observations."""

import jax
import jax.numpy as jnp

# Shorter pairs have no meaningful direction.
_SHORTEST = 1e-6


def normalized(
  obs: jax.Array, places: tuple[tuple[int, int], ...]
) -> jax.Array:
  """Returns `obs` [..., O] with its cosine-sine pairs scaled to unit length.

  Args:
    obs: observations, which may be predictions.
    places: the two indices of each pair.

  Example:
    >>> normalized(jnp.array([3.0, 7.0, 4.0]), ((0, 2),)).round(6).tolist()
    [0.6000000238418579, 7.0, 0.800000011920929]
  """
  for pair in places:
    part = obs[..., pair]
    squared = jnp.sum(jnp.square(part), -1, keepdims=True)
    length = jnp.sqrt(jnp.maximum(squared, _SHORTEST**2))
    obs = obs.at[..., pair].set(part / length)
  return obs
