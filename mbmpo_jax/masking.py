"""Arithmetic over the live steps of a trajectory.

`mask` [T, N] is 1 where a rollout was alive before the step. What is masked is
replaced *before* any arithmetic: `mask * x` and a `where` around the result
both turn a masked NaN into a NaN gradient.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types

# A number beyond this is taken for one that is not finite: a simulation that
# diverges passes through it, and its square would spoil all moments. MuJoCo
# draws the same line (mjMAXVAL).
_LARGEST = 1e10


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
  # By steps first: few passes over large arrays.
  sound = [
    jnp.all(jnp.isfinite(x), tuple(range(2, x.ndim)))
    for x in jax.tree.leaves(trajectory)
  ]
  sound_steps = functools.reduce(jnp.logical_and, sound)
  finite = jnp.all(sound_steps | (trajectory.mask == 0))
  mask = jnp.where(finite, trajectory.mask, 0.0)
  return trajectory._replace(mask=mask), finite


def sound_rows(tree: Any) -> jax.Array:
  """Whether every number of a row is finite and within +-1e10, bool [B].

  Args:
    tree: of arrays `[B, ...]`.
  """
  sound = [jnp.abs(x) <= _LARGEST for x in jax.tree.leaves(tree)]  # NaN is not
  return jnp.all(
    jnp.stack([jnp.all(x.reshape(x.shape[0], -1), -1) for x in sound]), 0
  )


def all_finite(tree: Any) -> jax.Array:
  """Whether every number of a tree of arrays is finite, a bool scalar."""
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))


def sums_finite(tree: Any) -> jax.Array:
  """Whether the sums over a tree of floating arrays are finite, a bool scalar.

  Any number that is not finite makes its sum so, and numbers near the largest
  may. It takes half as long as `all_finite` on a CPU.

  Example:
    >>> bool(sums_finite([jnp.ones((2, 2)), jnp.array([jnp.inf, -jnp.inf])]))
    False
  """
  return jnp.all(
    jnp.isfinite(jnp.stack([jnp.sum(x) for x in jax.tree.leaves(tree)]))
  )
