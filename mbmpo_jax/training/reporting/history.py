"""Finds runs on disk, and groups those that differ only in the seed."""

import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.storage import folder as folder_lib

_ALGORITHM = 'algorithm'
# Fields that are ignored when runs are compared; `run.` does not affect
# results.
_APART = ('seed', 'run.', f'{folder_lib.ARITHMETIC}.')
_NEEDED = ('iteration', 'env_steps', 'time/eval_s')
# With more differing fields than this, the label is the folder's name.
_MOST_FIELDS = 3


class HistoryError(errors.UserError, ValueError):
  """A path has no run that can be read."""


class History(NamedTuple):
  """The files of a run.

  Attributes:
    path: its folder, or the file of its metrics.
    rows: of `metrics.jsonl`; NaN for missing values.
    fields: its configuration by dotted name, and its `algorithm`; `None`
      without a configuration.
  """

  path: pathlib.Path
  rows: list[dict[str, float]]
  fields: Mapping[str, Any] | None

  @property
  def algorithm(self) -> str | None:
    """The name of the run's algorithm, if it is a known one."""
    name = (self.fields or {}).get(_ALGORITHM)
    return name if name in algorithms.names() else None


class Group(NamedTuple):
  """Runs of one algorithm that differ only in the seed."""

  label: str
  runs: tuple[History, ...]


def find(paths: Sequence[pathlib.Path]) -> list[History]:
  """Returns the runs at some paths without repetition or empty runs.

  Args:
    paths: each is a run's folder, a folder of runs such as a sweep's, or a
      `metrics.jsonl`.

  Raises:
    HistoryError: if a path has no run, or one that cannot be read.
  """
  files = {file.resolve(): file for path in paths for file in _files(path)}
  found = [_read(file) for file in files.values()]
  found = [history for history in found if history.rows]
  if not found:
    named = ' '.join(str(path) for path in paths)
    raise HistoryError(
      f'{named}: no metrics: no iteration is done yet, or the rows are lost'
    )
  return found


def group(histories: Sequence[History]) -> list[Group]:
  """Groups runs by algorithm and configuration, in the given order.

  A field that did not exist when a run was started counts as its present
  default. Runs without a configuration form separate groups.

  Returns:
    The groups. Their labels are the fields that differ, or the folders' names
    if many fields differ.
  """
  groups: dict[Any, list[History]] = {}
  for history in histories:
    key = (
      history.path
      if history.fields is None
      else tuple(sorted((k, repr(v)) for k, v in _compared(history).items()))
    )
    groups.setdefault(key, []).append(history)
  members = list(groups.values())
  labels = _by_field(members)
  if len(set(labels)) < len(labels):
    labels = _by_path(members)
  return [
    Group(label, tuple(runs))
    for label, runs in zip(labels, members, strict=True)
  ]


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  name = 'metrics.jsonl'
  if path.is_file():
    return [path]
  if (path / name).is_file():
    return [path / name]
  if not path.is_dir():
    raise HistoryError(f'{path}: no such file or folder')
  below = sorted(path.glob(f'*/{name}'))
  if not below:
    raise HistoryError(f'{path}: must contain {name}, or a folder with one')
  return below


def _read(file: pathlib.Path) -> History:
  try:
    found, damaged = metrics.read_rows(file)
    rows = [row for row in found if all(name in row for name in _NEEDED)]
    empty = not file.stat().st_size
  except OSError as error:
    raise HistoryError(f'{file}: cannot be read: {error.strerror}') from error
  if not rows and not empty:
    raise HistoryError(f'{file}: must be the metrics.jsonl of a run')
  damaged += len(found) - len(rows)
  if damaged:
    warnings.warn(
      f'{file}: {damaged} lines are damaged, and left out', stacklevel=2
    )
  config = file.with_name('config.json')
  try:
    fields = folder_lib.read_fields(config) if config.exists() else None
  except (OSError, ValueError) as error:
    raise HistoryError(f'{config}: cannot be read: {error}') from error
  return History(file.parent, rows, fields)


def _compared(history: History) -> dict[str, Any]:
  """Returns the fields that distinguish groups."""
  fields: dict[str, Any] = {}
  if history.algorithm is not None:
    default = config_lib.flatten(algorithms.config(history.algorithm)())
    # Lists instead of tuples, as in JSON.
    fields = {k: list(v) if type(v) is tuple else v for k, v in default.items()}
  fields.update(history.fields or {})
  return {k: v for k, v in fields.items() if not k.startswith(_APART)}


def _by_field(members: Sequence[Sequence[History]]) -> list[str]:
  """Labels groups by the fields that differ, or by folder if these are many."""
  if any(runs[0].fields is None for runs in members):
    return _by_path(members)
  fields = [_compared(runs[0]) for runs in members]
  # Only fields that all algorithms have; the others follow from the algorithm.
  names = [name for name in fields[0] if all(name in own for own in fields)]
  differ = [
    name
    for name in sorted(names, key=lambda name: name != _ALGORITHM)
    if any(own[name] != fields[0][name] for own in fields)
  ]
  if len(differ) > _MOST_FIELDS:
    return _by_path(members)
  shown = differ or ['env.name']
  return [', '.join(_setting(name, own) for name in shown) for own in fields]


def _setting(name: str, fields: Mapping[str, Any]) -> str:
  value = fields.get(name, 'absent')
  text = f'{value:g}' if isinstance(value, float) else str(value)
  return text if name in (_ALGORITHM, 'env.name') else f'{name}={text}'


def _by_path(members: Sequence[Sequence[History]]) -> list[str]:
  """Labels groups by folder, without the part of the path that all share."""
  roots = [
    pathlib.Path(os.path.commonpath([run.path.resolve() for run in runs]))
    for runs in members
  ]
  if len(roots) == 1 or len(set(roots)) < len(roots):
    return [str(runs[0].path) for runs in members]
  common = pathlib.Path(os.path.commonpath(roots))
  return [str(root.relative_to(common)) for root in roots]
