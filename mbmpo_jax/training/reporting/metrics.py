"""Writers of an iteration's metrics: JSON lines, TensorBoard, or several."""

import bisect
import errno
import json
import math
import os
import pathlib
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorboardX
from tensorboardX import event_file_writer
from tensorboardX.proto import event_pb2

from mbmpo_jax.algorithms import base
from mbmpo_jax.training.storage import atomic


class Writer(Protocol):
  """A destination of metrics."""

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes the metrics of iteration `step`."""
    ...

  def close(self) -> None:
    """Writes pending data."""
    ...


class JsonlWriter:
  """Writes one JSON object per iteration; non-finite numbers become `null`.

  Every row is on disk when `write` returns, so no row of an iteration before a
  checkpoint can be lost.
  """

  def __init__(self, path: pathlib.Path, *, first_step: int = 0) -> None:
    """Opens the file and drops rows of `first_step` and later.

    Those rows were written after the checkpoint from which the run resumes, and
    will be written again. An incomplete last row is dropped too. If other rows
    are damaged, a warning is given and a copy of the old file is kept.
    """
    kept: list[dict[str, float]] = []
    found = ''
    if path.exists():
      rows, damaged = read_rows(path)
      if damaged:
        aside = _aside(path)
        path.rename(aside)
        found = f'{damaged} lines are damaged; the file is kept as {aside.name}'
      kept = [row for row in rows if row['iteration'] < first_step]
      atomic.write_text(path, ''.join(_to_line(row) for row in kept))
    if found or len(kept) < first_step:
      warnings.warn(
        f'{path}: has rows of {len(kept)} of the {first_step} iterations that'
        f' are done; {found or "the others are lost"}',
        stacklevel=2,
      )
    self._file = path.open('a', encoding='utf-8')

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Appends `{"iteration": step, **metrics}`."""
    self._file.write(_to_line({'iteration': step, **metrics}))
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class TensorBoardWriter:
  """Writes TensorBoard events: one curve per metric over iterations."""

  def __init__(self, directory: pathlib.Path, *, first_step: int = 0) -> None:
    """Opens a new events file, which hides older events from `first_step`."""
    directory.mkdir(exist_ok=True)
    # Not `SummaryWriter`: on a full disk its thread ends silently, and further
    # writes then block forever.
    self._writer = event_file_writer.EventsWriter(
      str(directory / 'events'), f'.{os.getpid()}'
    )
    begin = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(first_step, session_log=begin)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a point to the curve of every finite metric."""
    for name, value in metrics.items():
      if math.isfinite(value):
        self._add(step, summary=tensorboardX.summary.scalar(name, value))
    self._writer.flush()

  def close(self) -> None:
    """Closes the events file."""
    self._writer.close()

  def _add(self, step: int, **what: Any) -> None:
    event = event_pb2.Event(step=step, wall_time=time.time(), **what)
    self._writer.write_event(event)


class Tee:
  """Writes to several writers."""

  def __init__(self, writers: Sequence[Writer]) -> None:
    """Takes ownership of the writers: `close` closes them."""
    self._writers = tuple(writers)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes to all writers."""
    for writer in self._writers:
      writer.write(step, metrics)

  def close(self) -> None:
    """Closes all writers."""
    for writer in self._writers:
      writer.close()


def read_jsonl(path: pathlib.Path) -> list[dict[str, float]]:
  """Reads the valid rows of a `metrics.jsonl`, with `null` as NaN.

  Raises:
    OSError: if the file cannot be read.
  """
  return read_rows(path)[0]


def read_rows(path: pathlib.Path) -> tuple[list[dict[str, float]], int]:
  """Reads the valid rows, and counts damaged lines.

  A line is damaged if it is not an object of numbers with an iteration, or is
  out of order. An incomplete last line is dropped but not counted.

  Raises:
    OSError: if the file cannot be read.
  """
  if not path.is_file():  # Reading a pipe would block.
    raise FileNotFoundError(errno.ENOENT, 'No such file', str(path))
  *lines, last = path.read_bytes().split(b'\n')
  found = [_row(line) for line in (*lines, last)]
  rows = _in_order([row for row in found if row is not None])
  return rows, len(lines) + (found[-1] is not None) - len(rows)


def _row(line: bytes) -> dict[str, float] | None:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):  # ValueError includes non-UTF-8.
    return None
  if not isinstance(row, dict):
    return None
  numbers = {k: math.nan if v is None else v for k, v in row.items()}
  if any(type(v) not in (int, float) for v in numbers.values()):
    return None
  index = numbers.get('iteration')
  return numbers if type(index) is int and 0 <= index < 2**31 else None


def _in_order(rows: list[dict[str, float]]) -> list[dict[str, float]]:
  """Returns the longest subsequence of rows with increasing iterations.

  A row with a wrong iteration thus removes no other row.
  """
  ends: list[int] = []  # last rows, by sequence length
  before: list[int | None] = []
  for index, row in enumerate(rows):
    place = bisect.bisect_left(
      ends, row['iteration'], key=lambda i: rows[i]['iteration']
    )
    before.append(ends[place - 1] if place else None)
    ends[place : place + 1] = [index]
  kept = []
  at: int | None = ends[-1] if ends else None
  while at is not None:
    kept.append(rows[at])
    at = before[at]
  return kept[::-1]


def _aside(path: pathlib.Path) -> pathlib.Path:
  """Returns an unused file name beside `path`."""
  target, count = path.with_name(f'{path.name}.damaged'), 1
  while target.exists():
    count += 1
    target = path.with_name(f'{path.name}.damaged.{count}')
  return target


def evaluated(
  rows: Sequence[Mapping[str, float]],
) -> list[Mapping[str, float]]:
  """Returns the rows of iterations with an evaluation."""
  return [row for row in rows if row.get('time/eval_s', 0) > 0]


def over_runs(
  rows: Sequence[Mapping[str, float]], declared: Mapping[str, base.Metric]
) -> dict[str, float]:
  """Combines one row per run into one: mean or sum, as each metric declares.

  Args:
    rows: one per run, with the same names.
    declared: the algorithm's declared metrics; the host's metrics are averaged.
  """
  return {
    name: total
    if name in declared and declared[name].over_runs == 'sum'
    else total / len(rows)
    for name in rows[0]
    for total in [sum(row[name] for row in rows)]
  }


def _to_line(row: Mapping[str, Any]) -> str:
  finite = {k: v if math.isfinite(v) else None for k, v in row.items()}
  return json.dumps(finite, allow_nan=False) + '\n'
