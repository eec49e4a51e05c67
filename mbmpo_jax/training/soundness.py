"""Stops a run in which non-finite numbers prevent all learning.

An algorithm removes non-finite numbers where they arise, so that they never
reach a parameter, and counts them in metrics named `nonfinite/...`. An
iteration in which all updates were rejected because of them reports
`base.STUCK`.

A run stops after `run.max_rejected_iterations` consecutive such iterations,
because its state has hardly changed and further iterations rarely help. The
last of these iterations is not saved, so the same command tries it again.
"""

import math
import warnings
from collections.abc import Mapping, Sequence

from mbmpo_jax import errors
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import contract
from mbmpo_jax.training import run as run_lib

_COUNTS = 'nonfinite/'
_CONTRACT = {contract.REWARD: 'reward', contract.DONE: 'done'}


class Watch:
  """Counts consecutive iterations without an accepted update, for each run.

  It uses the logged metrics only, so a resumed run counts as an uninterrupted
  run would.
  """

  def __init__(
    self,
    runs: Sequence[run_lib.Run],
    declared: Mapping[str, base.Metric],
    first: int,
  ) -> None:
    """Reads the metrics of the iterations before `first`.

    Args:
      runs: in the order in which they are stacked.
      declared: the algorithm's declared metrics.
      first: number of iterations already done.
    """
    self._limit = runs[0].config.run.max_rejected_iterations
    self._declared = declared
    self._told: set[tuple[str, str]] = set()
    self._names = [run.folder.root.name for run in runs]
    self._stuck: list[list[Mapping[str, float]]] = [[] for _ in runs]
    if self._limit and first:
      for run, stuck in zip(runs, self._stuck, strict=True):
        for row in run.rows():
          if row['iteration'] < first:
            _count(stuck, row)

  def check(self, index: int, rows: Sequence[Mapping[str, float]]) -> None:
    """Processes the metrics of iteration `index`, one row per run.

    If some of several runs are stuck, each is named in one warning and the
    others continue.

    Raises:
      errors.NonFiniteError: if all runs are stuck.
    """
    self._compare_contract(index, rows)
    if not self._limit:
      return
    for stuck, row in zip(self._stuck, rows, strict=True):
      _count(stuck, {'iteration': index, **row})
    reports = {
      name: (len(stuck), report(stuck, self._declared))
      for name, stuck in zip(self._names, self._stuck, strict=True)
    }
    if all(length >= self._limit for length, _ in reports.values()):
      error = errors.NonFiniteError(
        f'{", ".join(self._names)}: stopped after {self._limit} consecutive'
        ' iterations (run.max_rejected_iterations) in which numbers that are'
        ' not finite prevented all learning; the last iteration is not saved'
      )
      for name, (_, lines) in reports.items():
        for line in lines:
          error.add_note(f'{name}: {line}' if len(reports) > 1 else line)
      raise error
    for name, (length, lines) in reports.items():
      if length == self._limit:
        warnings.warn(
          f'{name}: nothing is learned any more, as numbers are not finite:'
          f' {"; ".join(lines)}',
          stacklevel=2,
        )

  def _compare_contract(
    self, index: int, rows: Sequence[Mapping[str, float]]
  ) -> None:
    """Warns once per run if real rewards or ends differ from the functions."""
    for name, row in zip(self._names, rows, strict=True):
      for metric, function in _CONTRACT.items():
        count = row.get(metric, 0)
        if not count > 0 or (name, metric) in self._told:
          continue
        self._told.add((name, metric))
        warnings.warn(
          f'{name}: iteration {index}: {count:.0f} of'
          f' {row.get("real_steps", math.nan):.0f} real steps differ from the'
          f" environment's `{function}`, which imagination uses; later ones are"
          f' counted in {metric}',
          stacklevel=3,
        )


def report(
  rows: Sequence[Mapping[str, float]], declared: Mapping[str, base.Metric]
) -> list[str]:
  """Returns one line per kind of non-finite number: how many, and when.

  Args:
    rows: metrics, each with its `iteration`.
    declared: the declared metrics, in the order of the lines.
  """
  lines = []
  for name, metric in declared.items():
    if not name.startswith(_COUNTS) or name == base.STUCK:
      continue
    found = [row for row in rows if row.get(name, 0) > 0]
    if found:
      count = sum(row[name] for row in found)
      first, last = (int(found[i]['iteration']) for i in (0, -1))
      when = f'iteration {first}'
      if last > first:
        when = f'iterations {first} to {last}'
      lines.append(f'{name}: {count:.0f} {metric.text}, {when}')
  return lines


def _count(stuck: list[Mapping[str, float]], row: Mapping[str, float]) -> None:
  """Appends a row without an accepted update; clears `stuck` otherwise."""
  if row.get(base.STUCK, 0) > 0:
    stuck.append(row)
  else:
    stuck.clear()
