"""What a model promises beside what came true, and a word where they part.

A metric that names another one (`base.Metric.against`) is a return that a model
foretold. The ratio of the two is a column of its own. Where more and more is
promised than comes true, the policy has learned what the model gets wrong, and
more of it will not help:

  promise - real > (MOST - 1) |real|,

which is a ratio above `MOST` where the real return is above 0, and says the
same of returns that are costs.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mbmpo_jax.algorithms import base

if TYPE_CHECKING:  # It imports `iteration`, which imports this.
  from mbmpo_jax.training import run as run_lib

# A promise so far above the real return, in so many iterations in a row, is
# worth a warning: while learning is fast one iteration says little.
MOST = 1.5
PATIENCE = 3


def ratios(
  declared: Mapping[str, base.Metric], row: Mapping[str, float]
) -> dict[str, float]:
  """The column `<name>_ratio` of every metric that has an `against`.

  Args:
    declared: what the metrics say.
    row: of one iteration.

  Returns:
    By name; NaN where the real return is not above 0, as the ratio says nothing
    then, or is missing.

  Example:
    >>> declared = {'dream': base.Metric('a return', against='real')}
    >>> ratios(declared, {'dream': 3.0, 'real': 2.0})
    {'dream_ratio': 1.5}
  """
  found = {}
  for name, metric in declared.items():
    if metric.against:
      real = float(row.get(metric.against, math.nan))
      ratio = float(row[name]) / real if real > 0 else math.nan
      found[_column(name)] = ratio
  return found


class Watch:
  """Warns of promises that are not kept, once per run and metric.

  All that it knows is in the metrics, so that a resumed run warns as if it had
  never stopped.
  """

  def __init__(
    self,
    runs: 'Sequence[run_lib.Run]',
    declared: Mapping[str, base.Metric],
    first: int,
  ) -> None:
    """Reads the metrics of the iterations before `first`.

    Args:
      runs: in the order in which they are stacked.
      declared: what the algorithm's metrics say.
      first: iterations that are done.
    """
    self._declared = {n: m for n, m in declared.items() if m.against}
    self._names = [run.folder.root.name for run in runs]
    self._high = {(x, n): 0 for x in self._names for n in self._declared}
    if not self._declared or not first:
      return
    for name, run in zip(self._names, runs, strict=True):
      for row in run.rows():
        if row['iteration'] < first:
          self._count(name, row)

  def check(self, index: int, rows: Sequence[Mapping[str, float]]) -> None:
    """Takes note of iteration `index`, of the metrics of each run."""
    for name, row in zip(self._names, rows, strict=True):
      for metric in self._count(name, row):
        declared = self._declared[metric]
        warnings.warn(
          f'{name}: iteration {index}: imagination runs away: for {PATIENCE}'
          f' iterations {metric} was above {declared.against} by more than'
          f' {MOST - 1:.0%} of it, now {row[metric]:.4g} and'
          f' {row[declared.against]:.4g} ({_column(metric)} counts on);'
          f' {declared.advice}',
          stacklevel=2,
        )

  def _count(self, name: str, row: Mapping[str, float]) -> list[str]:
    """Counts on, and gives the metrics to be warned of now."""
    due = []
    for metric in self._declared:
      high = self._high[name, metric]
      if high >= PATIENCE:  # said before
        continue
      above = _above(row, metric, self._declared[metric].against)
      self._high[name, metric] = high + 1 if above else 0
      if high + above == PATIENCE:
        due.append(metric)
    return due


def _above(row: Mapping[str, float], metric: str, against: str) -> bool:
  """Whether too much was promised; not where one of the two is missing."""
  promise, real = row.get(metric), row.get(against)
  if promise is None or real is None:
    return False
  return promise - real > (MOST - 1) * abs(real)


def _column(name: str) -> str:
  return f'{name}_ratio'
