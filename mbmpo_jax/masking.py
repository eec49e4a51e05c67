"""Arithmetic over the live steps of a trajectory.

`mask` [T, N] is 1 where a rollout was alive before the step. Masked entries are
replaced *before* any arithmetic: both `mask * x` and a `where` around the
result turn a masked NaN into a NaN gradient.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types

# Numbers larger than this count as non-finite. A diverging simulation passes
# through such values, and their squares would distort all moments. MuJoCo uses
# the same limit (mjMAXVAL).
_LARGEST = 1e10


def live(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Returns `x` [T, N, ...] with zeros where `mask` [T, N] is 0."""
  return jnp.where(broadcasting.trailing(mask, x.ndim) > 0, x, 0.0)


def mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Returns the mean of `x` [T, N] over live steps, or 0 if there are none.

  Example:
    >>> x = jnp.array([[1.0, 3.0], [5.0, jnp.nan]])
    >>> float(mean(x, mask=jnp.array([[1.0, 1.0], [1.0, 0.0]])))
    3.0
  """
  return jnp.sum(live(x, mask)) / jnp.maximum(jnp.sum(mask), 1)


def live_steps(trajectory: types.Trajectory) -> types.Trajectory:
  """Returns the trajectory with zeros in every field of each masked step."""
  return jax.tree.map(lambda x: live(x, trajectory.mask), trajectory)


def reject_non_finite(
  trajectory: types.Trajectory,
) -> tuple[types.Trajectory, jax.Array]:
  """Masks a whole trajectory if any of its live steps is not finite.

  Returns:
    The trajectory `[T, N, ...]`, with a mask of zeros if it is rejected, and
    whether all its live steps were finite, a bool scalar.
  """
  # Reduce each leaf to [T, N] first, which takes few passes over large arrays.
  sound = [
    jnp.all(jnp.isfinite(x), tuple(range(2, x.ndim)))
    for x in jax.tree.leaves(trajectory)
  ]
  sound_steps = functools.reduce(jnp.logical_and, sound)
  finite = jnp.all(sound_steps | (trajectory.mask == 0))
  mask = jnp.where(finite, trajectory.mask, 0.0)
  return trajectory._replace(mask=mask), finite


def sound_rows(tree: Any) -> jax.Array:
  """Returns for each row whether all its numbers are within +-1e10, bool [B].

  NaN and infinities are not.

  Args:
    tree: a pytree of arrays `[B, ...]`.
  """
  sound = [jnp.abs(x) <= _LARGEST for x in jax.tree.leaves(tree)]  # NaN is not
  return jnp.all(
    jnp.stack([jnp.all(x.reshape(x.shape[0], -1), -1) for x in sound]), 0
  )


def all_finite(tree: Any) -> jax.Array:
  """Whether every number in a pytree of arrays is finite, a bool scalar."""
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))


def sums_finite(tree: Any) -> jax.Array:
  """Whether the sum of every array in a pytree is finite, a bool scalar.

  A non-finite number makes the sum of its array non-finite. Finite numbers near
  the largest float may do so too. On a CPU this test takes half the time of
  `all_finite`.

  Example:
    >>> bool(sums_finite([jnp.ones((2, 2)), jnp.array([jnp.inf, -jnp.inf])]))
    False
  """
  return jnp.all(
    jnp.isfinite(jnp.stack([jnp.sum(x) for x in jax.tree.leaves(tree)]))
  )
