"""Warns if returns predicted by models exceed the real ones (`ratios.py`).

If the predicted return exceeds the real one more and more, the policy exploits
errors of the model, and more training does not help. A warning is given if

  promise - real > max((MOST - 1) |real|, LEAST * range),

which for a positive real return means a ratio above `MOST`, and also applies to
negative returns. The range is that of the run's real returns so far. It matters
where they are close to 0. Iteration 0, with uniform actions, is not judged, nor
is an iteration without one of the two returns.
"""

import collections
import math
import warnings
from collections.abc import Mapping, Sequence

from mbmpo_jax.algorithms import base
from mbmpo_jax.training import ratios
from mbmpo_jax.training import run as run_lib

# Warn if the ratio exceeds MOST in HIGH of the last WINDOW judged iterations.
# While the policy improves quickly, a single iteration is not informative. In a
# run whose policy gets worse, the ratio may vary about MOST.
MOST = 1.5
LEAST = 0.1
HIGH = 3
WINDOW = 5


class Watch:
  """Warns if predicted returns exceed real ones, once per run and metric.

  It uses the logged metrics only, so a resumed run warns as an uninterrupted
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
    self._declared = {n: m for n, m in declared.items() if m.against}
    self._names = [run.folder.root.name for run in runs]
    # Whether the predicted return was too high, in the newest iterations.
    self._high: dict[tuple[str, str], collections.deque[bool]] = {
      (name, metric): collections.deque(maxlen=WINDOW)
      for name in self._names
      for metric in self._declared
    }
    # The real returns' lowest and highest value so far.
    self._range = dict.fromkeys(self._high, (math.inf, -math.inf))
    self._warned: set[tuple[str, str]] = set()
    if not self._declared or not first:
      return
    for name, run in zip(self._names, runs, strict=True):
      for row in run.rows():
        if row['iteration'] < first:
          self._count(name, row)

  def check(self, index: int, rows: Sequence[Mapping[str, float]]) -> None:
    """Processes the metrics of iteration `index`, one row per run."""
    for name, row in zip(self._names, rows, strict=True):
      for metric in self._count(name, {'iteration': index, **row}):
        declared = self._declared[metric]
        promise, real = row[metric], row[declared.against]
        see = f' (see {ratios.column(metric)})' if real > 0 else ''
        warnings.warn(
          f'{name}: iteration {index}: in {HIGH} of the last {WINDOW}'
          f' iterations {metric} exceeded {declared.against} by more than'
          f' {MOST - 1:.0%}, now {promise:.4g} and {real:.4g}{see}; the policy'
          f' may exploit errors of the models: {declared.advice}',
          stacklevel=2,
        )

  def _count(self, name: str, row: Mapping[str, float]) -> list[str]:
    """Records an iteration; returns the metrics that need a warning now."""
    due = []
    for metric in self._declared:
      key = name, metric
      if key in self._warned:
        continue
      above = self._is_above(name, row, metric)
      if above is not None:
        self._high[key].append(above)
      if above and sum(self._high[key]) == HIGH:
        self._warned.add(key)
        due.append(metric)
    return due

  def _is_above(
    self, name: str, row: Mapping[str, float], metric: str
  ) -> bool | None:
    """Whether the predicted return is too high; `None` if not judged."""
    promise, real = row.get(metric), row.get(self._declared[metric].against)
    if promise is None or real is None:
      return None
    if not (math.isfinite(promise) and math.isfinite(real)):
      return None
    low, high = self._range[name, metric]
    low, high = min(low, real), max(high, real)
    self._range[name, metric] = low, high
    if not row['iteration']:
      return None
    least = LEAST * (high - low)
    return promise - real > max((MOST - 1) * abs(real), least)
