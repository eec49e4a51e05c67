"""Actions of a Gymnasium space, and those of policies: [-1, 1], or one-hot."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mbmpo_jax.training.external import task


class Actions(NamedTuple):
  """How a policy's actions reach a world.

  Attributes:
    size: A.
    discrete: whether they are choices.
    to_world: actions [N, A] of a policy -> [N, ...] of the space.
    from_world: the way back, for logged data.
  """

  size: int
  discrete: bool
  to_world: Callable[[np.ndarray], np.ndarray]
  from_world: Callable[[np.ndarray], np.ndarray]


def make(space: Any, name: str) -> Actions:
  """For a Gymnasium space, Box or Discrete.

  A box is scaled: -1 is its lower bound and 1 its upper one, in every
  dimension; arrays of any rank are flattened.

  Args:
    space: `gymnasium.spaces.Box` or `Discrete`.
    name: the world's, for messages.

  Raises:
    task.WorldError: if it is another, or its bounds are no box.
  """
  kind = type(space).__name__
  if kind == 'Discrete':
    return discrete(int(space.n), int(space.start))
  if kind != 'Box':
    raise task.WorldError(
      f'{name}: its actions are {space}: must be a Box or a Discrete; wrap the'
      ' environment so that they are'
    )
  if not np.issubdtype(space.dtype, np.floating):
    raise task.WorldError(
      f'{name}: its actions are of type {space.dtype}: must be floats'
    )
  low, high = (np.ravel(x).astype(np.float64) for x in (space.low, space.high))
  if not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
    raise task.WorldError(
      f'{name}: its actions are within {low.tolist()} and {high.tolist()}: must'
      ' have finite bounds, the lower ones below; wrap it in'
      ' gymnasium.wrappers.RescaleAction or give its Box bounds'
    )
  return box(low, high, space.shape, space.dtype)


def box(
  low: Any,
  high: Any,
  shape: tuple[int, ...] | None = None,
  dtype: Any = np.float32,
) -> Actions:
  """Of the bounds `low` and `high` [A], arrays of this shape and type."""
  low, high = (np.ravel(x).astype(np.float64) for x in (low, high))
  shape = low.shape if shape is None else shape
  middle, half = (high + low) / 2, (high - low) / 2

  def to_world(actions: np.ndarray) -> np.ndarray:
    scaled = middle[None] + half[None] * np.clip(actions, -1, 1)
    # Rounding must not leave the box.
    scaled = np.clip(scaled, low[None], high[None])
    return scaled.reshape(-1, *shape).astype(dtype)

  def from_world(actions: np.ndarray) -> np.ndarray:
    flat = np.asarray(actions, np.float64).reshape(-1, low.size)
    return (flat - middle[None]) / half[None]

  return Actions(low.size, False, to_world, from_world)


def discrete(count: int, start: int = 0) -> Actions:
  """One of `count` choices, of which `start` is the first."""

  def to_world(actions: np.ndarray) -> np.ndarray:
    return start + np.argmax(actions, -1)

  def from_world(actions: np.ndarray) -> np.ndarray:
    return np.eye(count)[np.asarray(actions) - start]

  return Actions(count, True, to_world, from_world)
