"""Scales the actions of a log to [-1, 1], or converts them to one-hot."""

import numpy as np

from mbmpo_jax.training.external import actions as actions_lib
from mbmpo_jax.training.logs import files as files_lib
from mbmpo_jax.training.logs import log as log_lib

_LARGEST = 1e10  # As in `masking.sound_rows`.
_BEYOND = 1e-5  # Tolerated excess over the bounds.


def scaled(
  raw: files_lib.Raw,
  taken: np.ndarray,
  scaling: actions_lib.Actions | None,
  findings: list[str],
) -> tuple[actions_lib.Actions, np.ndarray]:
  """Returns actions [B, A] in [-1, 1] or one-hot; NaN if they are not finite.

  Args:
    raw: the content of the file.
    taken: its actions, `[B, A]`.
    scaling: bounds, if the user gave them.
    findings: receives a line if discrete actions are assumed.

  Returns:
    The scaling that is used, and the actions.

  Raises:
    LogError: naming file, column and row of an action out of range.
  """
  scaling = scaling or raw.actions
  width, name = taken.shape[1], raw.names['action']
  if scaling is None and raw.discrete:
    scaling = actions_lib.discrete(width)
    taken = np.argmax(taken, 1)[:, None]
  if scaling is None and taken.dtype.kind in 'biu' and width == 1:
    most = int(taken.max())
    scaling = actions_lib.discrete(max(most + 1, 2))
    findings.append(
      f'{raw.file}: {name} are integers: read as discrete actions 0 to {most}'
    )
  if scaling is None:
    ones = np.ones(width)
    scaling = actions_lib.box(-ones, ones, (width,), np.float64)
  if scaling.discrete:
    return scaling, _choices(raw, taken, scaling)
  if scaling.size == 1:  # one bound for all
    low, high = bounds(scaling)
    scaling = actions_lib.box(np.repeat(low, width), np.repeat(high, width))
  if scaling.size != width:
    raise log_lib.LogError(
      f'{raw.file}: {name} has {width} columns: must have {scaling.size}, as'
      ' many as the bounds of actions'
    )
  found = scaling.from_world(taken)
  sound = np.abs(found) <= _LARGEST
  size = np.where(sound, np.abs(found), 0.0)
  if size.max() > 1 + _BEYOND:
    row, column = np.unravel_index(np.argmax(size), size.shape)
    low, high = bounds(scaling)
    raise log_lib.LogError(
      f'{raw.file}: {files_lib.label(raw, "action", int(column))} is'
      f' {taken[row, column]:.6g} in row {row}: must be within'
      f' [{low[column]:.6g}, {high[column]:.6g}]; other bounds can be given by'
      " --action_low and --action_high, or by the environment's id, --gym"
    )
  return scaling, np.where(sound, np.clip(found, -1, 1), np.nan)


def _choices(
  raw: files_lib.Raw, taken: np.ndarray, scaling: actions_lib.Actions
) -> np.ndarray:
  name = raw.names['action']
  first, last = (int(x[0]) for x in bounds(scaling))
  sound = np.isfinite(taken)
  number = np.where(sound, taken, first)
  wrong = (number < first) | (number > last) | (number != np.round(number))
  if taken.shape[1] != 1 or wrong.any():
    said = (
      f'has {taken.shape[1]} columns'
      if taken.shape[1] != 1
      else f'is {number[wrong][0]:g} in row {np.flatnonzero(wrong.any(1))[0]}'
    )
    raise log_lib.LogError(
      f'{raw.file}: {name} {said}: must be one whole number, {first} to {last}'
    )
  chosen = np.eye(scaling.size)[number[:, 0].astype(int) - first]
  return np.where(sound, chosen, np.nan)


def bounds(scaling: actions_lib.Actions) -> tuple[np.ndarray, np.ndarray]:
  """Returns the actions of -1 and 1, [A]; or the first and last choice."""
  if scaling.discrete:
    ends = np.eye(scaling.size)[[0, -1]]
    first, last = scaling.to_world(ends).astype(float)
    return np.array([first]), np.array([last])
  ones = np.ones((1, scaling.size))
  low, high = (
    np.ravel(scaling.to_world(sign * ones)).astype(float) for sign in (-1, 1)
  )
  return low, high


def given(
  low: list[float] | None, high: list[float] | None
) -> actions_lib.Actions | None:
  """Builds the scaling of continuous actions from the user's bounds.

  Raises:
    LogError: if the numbers of bounds differ, or a lower one is not below.
  """
  if low is None and high is None:
    return None
  lower, upper = np.array(low or []), np.array(high or [])
  if lower.shape != upper.shape or not np.all(lower < upper) or not lower.size:
    raise log_lib.LogError(
      f'--action_low={low} --action_high={high}: must be equally many numbers,'
      ' each lower one below the upper'
    )
  return actions_lib.box(lower, upper)
