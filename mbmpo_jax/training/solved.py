"""Ends a run whose evaluations have reached a given return.

A run is solved if its last `IN_A_ROW` evaluations all have a mean return of at
least `run.solved_at`. A return that is not finite is below any other.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mbmpo_jax.training.reporting import metrics

if TYPE_CHECKING:  # `run` imports modules that import this one.
  from mbmpo_jax.training import run as run_lib

IN_A_ROW = 3
MESSAGE = f'the last {IN_A_ROW} evaluations reached run.solved_at'
_RETURN = 'eval/return_mean'


def is_solved(
  rows: Sequence[Mapping[str, float]], solved_at: float | None
) -> bool:
  """Whether a run with these metrics is solved.

  Args:
    rows: the metrics, one row per iteration.
    solved_at: the return; with `None` no run is solved.

  Example:
    >>> import math
    >>> def row(value, seconds=1.0):
    ...   return {'eval/return_mean': value, 'time/eval_s': seconds}
    >>> # The second iteration has no evaluation.
    >>> rows = [row(7.0), row(math.nan, seconds=0.0), row(9.0), row(8.0)]
    >>> is_solved(rows, 7.0), is_solved(rows, 7.5)
    (True, False)
    >>> is_solved([*rows, row(math.nan)], 7.0)
    False
  """
  if solved_at is None:
    return False
  newest = metrics.evaluated(rows)[-IN_A_ROW:]
  return len(newest) == IN_A_ROW and all(
    row[_RETURN] >= solved_at for row in newest
  )


class Watch:
  """Follows runs that are trained together."""

  def __init__(
    self,
    runs: 'Sequence[run_lib.Run]',
    solved_at: float | None,
    first: int,
  ) -> None:
    """Reads the metrics of the iterations before `first`.

    Args:
      runs: in the order in which they are stacked.
      solved_at: the return, or `None`.
      first: number of iterations already done.
    """
    self._solved_at = solved_at
    self._rows: list[list[Mapping[str, float]]] = [[] for _ in runs]
    if solved_at is not None and first:
      self._rows = [
        [row for row in run.rows() if row['iteration'] < first] for run in runs
      ]

  def add(self, rows: Sequence[Mapping[str, float]]) -> None:
    """Adds the metrics of an iteration, one row per run."""
    if self._solved_at is None:
      return
    for seen, row in zip(self._rows, rows, strict=True):
      seen.append(row)

  @property
  def solved(self) -> bool:
    """Whether all runs are solved."""
    return all(is_solved(seen, self._solved_at) for seen in self._rows)
