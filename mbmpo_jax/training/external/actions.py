"""Maps a policy's actions, [-1, 1] or one-hot, to those of Gymnasium spaces."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mbmpo_jax.training.external import task


class Actions(NamedTuple):
  """The mapping between a policy's actions and an environment's.

  Attributes:
    size: A.
    discrete: whether actions are choices.
    to_world: maps a policy's actions [N, A] to actions [N, ...] of the space.
    from_world: the inverse, for logged data.
  """

  size: int
  discrete: bool
  to_world: Callable[[np.ndarray], np.ndarray]
  from_world: Callable[[np.ndarray], np.ndarray]


def make(space: Any, name: str) -> Actions:
  """Builds the mapping for a Gymnasium space, Box or Discrete.

  A box is scaled such that -1 is its lower and 1 its upper bound in every
  dimension. Arrays of any rank are flattened.

  Args:
    space: `gymnasium.spaces.Box` or `Discrete`.
    name: the environment's name, for messages.

  Raises:
    task.WorldError: if the space is of another type; or if a box is not of
      floats, or its bounds are infinite or not in order.
  """
  kind = type(space).__name__
  if kind == 'Discrete':
    return discrete(int(space.n), int(space.start))
  if kind != 'Box':
    raise task.WorldError(
      f'{name}: its actions are {space}: must be a Box or a Discrete; wrap the'
      ' environment in gymnasium.wrappers.TransformAction'
    )
  if not np.issubdtype(space.dtype, np.floating):
    raise task.WorldError(
      f'{name}: its actions are of type {space.dtype}: must be floats'
    )
  low, high = (np.ravel(x).astype(np.float64) for x in (space.low, space.high))
  if not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
    raise task.WorldError(
      f'{name}: its actions have the bounds {low.tolist()} and'
      f' {high.tolist()}: must be finite, and each lower one below the upper;'
      ' set them in its Box, or by gymnasium.wrappers.TransformAction'
    )
  return box(low, high, space.shape, space.dtype)


def box(
  low: Any,
  high: Any,
  shape: tuple[int, ...] | None = None,
  dtype: Any = np.float32,
) -> Actions:
  """Builds the mapping for the bounds `low` and `high` [A].

  Args:
    low: lower bounds.
    high: upper bounds.
    shape: shape of the environment's actions.
    dtype: type of the environment's actions.
  """
  low, high = (np.ravel(x).astype(np.float64) for x in (low, high))
  shape = low.shape if shape is None else shape
  middle, half = (high + low) / 2, (high - low) / 2

  def to_world(actions: np.ndarray) -> np.ndarray:
    scaled = middle[None] + half[None] * np.clip(actions, -1, 1)
    # Rounding must not move an action out of the box.
    scaled = np.clip(scaled, low[None], high[None])
    return scaled.reshape(-1, *shape).astype(dtype)

  def from_world(actions: np.ndarray) -> np.ndarray:
    flat = np.asarray(actions, np.float64).reshape(-1, low.size)
    return (flat - middle[None]) / half[None]

  return Actions(low.size, False, to_world, from_world)


def discrete(count: int, start: int = 0) -> Actions:
  """Builds the mapping for `count` choices, numbered from `start`."""

  def to_world(actions: np.ndarray) -> np.ndarray:
    return start + np.argmax(actions, -1)

  def from_world(actions: np.ndarray) -> np.ndarray:
    return np.eye(count)[np.asarray(actions) - start]

  return Actions(count, True, to_world, from_world)
