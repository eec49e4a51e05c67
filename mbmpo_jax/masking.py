"""Arithmetic over the live steps of a trajectory.

`mask` [T, N] is 1 where a rollout was alive before the step. What is masked is
replaced *before* any arithmetic: `mask * x` and a `where` around the result
both turn a masked NaN into a NaN gradient.
"""

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types


def live(x: jax.Array, mask: jax.Array) -> jax.Array:
  """`x` [T, N, ...] with zeros where `mask` [T, N] is 0."""
  return jnp.where(broadcasting.trailing(mask, x.ndim) > 0, x, 0.0)


def mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  """The mean of `x` [T, N] over live steps; zero if there are none.

  Example:
    >>> x = jnp.array([[1.0, 3.0], [5.0, jnp.nan]])
    >>> float(mean(x, mask=jnp.array([[1.0, 1.0], [1.0, 0.0]])))
    3.0
  """
  return jnp.sum(live(x, mask)) / jnp.maximum(jnp.sum(mask), 1)


def live_steps(trajectory: types.Trajectory) -> types.Trajectory:
  """The trajectory with zeros in every field of a masked step."""
  return jax.tree.map(lambda x: live(x, trajectory.mask), trajectory)


def reject_non_finite(
  trajectory: types.Trajectory,
) -> tuple[types.Trajectory, jax.Array]:
  """Masks a whole trajectory if any live step of it is not finite.

  Returns:
    The trajectory `[T, N, ...]`, all masked where rejected, and whether it was
    finite, a bool scalar.
  """
  finite = jnp.all(
    jnp.stack(
      [
        jnp.all(jnp.isfinite(live(x, trajectory.mask)))
        for x in jax.tree.leaves(trajectory)
      ]
    )
  )
  mask = jnp.where(finite, trajectory.mask, 0.0)
  return trajectory._replace(mask=mask), finite
