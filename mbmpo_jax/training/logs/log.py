"""A log: what happened in a world, as rows that a buffer takes."""

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
  """A log cannot be used as it is; one line says why, and the way out."""


class Log(NamedTuple):
  """Sound transitions, the rows of an episode in order.

  Where a row was left out, `time` goes on after it as if it were there: no
  window of consecutive steps crosses the gap, and no episode begins after it.

  Attributes:
    name: of the file, for messages and titles.
    rows: `[B, ...]`, NumPy arrays of single precision; actions are within
      [-1, 1], or one-hot.
    columns: what the dimensions of an observation are called.
    discrete: whether actions are choices.
    low: of the actions in the file, [A], what -1 stands for; of choices, the
      number of the first.
    high: what 1 stands for, or the number of the last.
  """

  name: str
  rows: types.Transition
  columns: tuple[str, ...]
  discrete: bool
  low: np.ndarray
  high: np.ndarray

  @property
  def size(self) -> int:
    """B."""
    return len(self.rows.reward)

  @property
  def num_episodes(self) -> int:
    """How many there are."""
    return len(np.unique(self.rows.episode))

  def take(self, chosen: np.ndarray) -> 'Log':
    """Of the rows where `chosen` [B] is true."""
    arrays: Any = self.rows[:-1]
    rows = types.Transition(*(x[chosen] for x in arrays))
    return self._replace(rows=rows)

  def digest(self) -> str:
    """Tells one log from another."""
    found = hashlib.sha256()
    arrays: Any = self.rows[:-1]
    for array in arrays:
      found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def hold_out(log: Log, *, fraction: float, seed: int) -> tuple[Log, Log]:
  """Parts with episodes that nothing is learned from.

  Args:
    log: all of it.
    fraction: of the rows, at least; in whole episodes. Of a single episode the
      end is held out.
    seed: chooses the episodes.

  Returns:
    What is learned from, and what is held out.
  """
  episode = log.rows.episode
  numbers, counts = np.unique(episode, return_counts=True)
  if len(numbers) == 1:
    last = np.arange(log.size) >= log.size - max(1, int(fraction * log.size))
    return log.take(~last), log.take(last)
  order = np.random.default_rng(seed).permutation(len(numbers))
  before = np.cumsum(counts[order]) - counts[order]
  held = order[before < fraction * log.size]
  # One is learned from, however long the others are.
  chosen = np.isin(episode, numbers[held[: len(numbers) - 1]])
  return log.take(~chosen), log.take(chosen)


def fill(buffer: buffer_lib.Buffer, log: Log) -> buffer_lib.Buffer:
  """The buffer, with the log."""
  return buffer_lib.add(buffer, log.rows)


def to_buffer(log: Log) -> buffer_lib.Buffer:
  """A ring that holds the log, and is full."""
  width = log.rows.obs.shape[1], log.rows.action.shape[1]
  return fill(buffer_lib.init_transitions(log.size, *width), log)


def most_steps(log: Log, most: int, *, windows: int) -> int:
  """The longest windows of consecutive steps of which there are so many.

  Args:
    log: with at least one row.
    most: steps; never more.
    windows: how many there are to be; of length 1, there may be fewer.
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
  """Replaces an .npz file that `read` takes; its actions are within [-1, 1].

  Raises:
    WriteError: if it cannot be written.
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
  """The precision in use."""
  return np.dtype(jnp.zeros(()).dtype)
