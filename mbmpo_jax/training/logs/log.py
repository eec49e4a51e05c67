"""Logs of transitions, in the form that a buffer stores."""

import hashlib
import io
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.training.storage import atomic


class LogError(errors.UserError, ValueError):
  """A log cannot be used; one line gives the reason and what to do."""


class Log(NamedTuple):
  """Valid transitions; the rows of an episode are in order.

  If a row was removed, `time` still counts it: no window of consecutive steps
  crosses the gap, and no episode starts after it.

  Attributes:
    name: of the file, for messages and titles.
    rows: `[B, ...]`, NumPy arrays of single precision; actions are within [-1,
      1], or one-hot.
    columns: names of the observation's dimensions.
    discrete: whether actions are choices.
    low: the action in the file, [A], that -1 stands for; for choices, the
      number of the first.
    high: the action in the file that 1 stands for, or the number of the last
      choice.
  """

  name: str
  rows: types.Transition
  columns: tuple[str, ...]
  discrete: bool
  low: np.ndarray
  high: np.ndarray

  @property
  def size(self) -> int:
    """The number B of rows."""
    return len(self.rows.reward)

  @property
  def num_episodes(self) -> int:
    """The number of episodes."""
    return len(np.unique(self.rows.episode))

  def take(self, chosen: np.ndarray) -> 'Log':
    """Returns the rows where `chosen` [B] is true."""
    arrays: Any = self.rows[:-1]
    rows = types.Transition(*(x[chosen] for x in arrays))
    return self._replace(rows=rows)

  def digest(self) -> str:
    """A hash of the log."""
    found = hashlib.sha256()
    arrays: Any = self.rows[:-1]
    for array in arrays:
      found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def hold_out(log: Log, *, fraction: float, seed: int) -> tuple[Log, Log]:
  """Splits off episodes that are not learned from.

  Args:
    log: the whole log.
    fraction: the smallest fraction of rows to hold out, in whole episodes. With
      a single episode, its end is held out.
    seed: chooses the episodes.

  Returns:
    The rows to learn from, and the held-out rows.
  """
  episode = log.rows.episode
  numbers, counts = np.unique(episode, return_counts=True)
  if len(numbers) == 1:
    last = np.arange(log.size) >= log.size - max(1, int(fraction * log.size))
    return log.take(~last), log.take(last)
  order = np.random.default_rng(seed).permutation(len(numbers))
  before = np.cumsum(counts[order]) - counts[order]
  held = order[before < fraction * log.size]
  # Keep at least one episode to learn from.
  chosen = np.isin(episode, numbers[held[: len(numbers) - 1]])
  return log.take(~chosen), log.take(chosen)


def fill(buffer: buffer_lib.Buffer, log: Log) -> buffer_lib.Buffer:
  """Returns the buffer with the log added."""
  return buffer_lib.add(buffer, log.rows)


def to_buffer(log: Log) -> buffer_lib.Buffer:
  """Returns a full buffer that holds the log."""
  width = log.rows.obs.shape[1], log.rows.action.shape[1]
  return fill(buffer_lib.init_transitions(log.size, *width), log)


def most_steps(log: Log, most: int, *, windows: int) -> int:
  """Returns the longest window length with enough windows in the log.

  Args:
    log: a log with at least one row.
    most: the largest length to return.
    windows: the number of windows needed; windows of length 1 are returned even
      if there are fewer.
  """
  rows = log.rows
  goes_on = (np.diff(rows.episode) == 0) & (np.diff(rows.time) == 1)
  ends = np.flatnonzero(np.append(~goes_on, True))
  runs = np.diff(np.append(-1, ends))
  for length in range(min(most, int(runs.max())), 1, -1):
    if np.sum(np.maximum(runs - length + 1, 0)) >= windows:
      return length
  return 1


def write(log: Log, path: pathlib.Path) -> None:
  """Writes an .npz file that `read` can read; its actions are in [-1, 1].

  Raises:
    WriteError: if the file cannot be written.
  """
  rows, data = log.rows, io.BytesIO()
  names = [*rows._fields[:-1]]
  np.savez_compressed(
    data,
    **{name: np.asarray(getattr(rows, name)) for name in names},  # type: ignore[arg-type]
    columns=np.array(log.columns),
    discrete=np.array(log.discrete),
  )
  atomic.write_output(path, data.getvalue())


def float_type() -> np.dtype:
  """Returns JAX's current float type."""
  return np.dtype(jnp.zeros(()).dtype)
