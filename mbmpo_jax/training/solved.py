"""Ends a run whose evaluations have reached a given return.

A run is solved once `IN_A_ROW` evaluations in a row have a mean return of at
least `run.solved_at`. It ends `MORE` evaluations later. The mean of these is an
unbiased result: the evaluations before them were selected because they are
high. A return that is not finite is below any other.
"""

from collections.abc import Mapping, Sequence

from mbmpo_jax.training import run as run_lib
from mbmpo_jax.training.reporting import metrics

IN_A_ROW = 3
MORE = 3
MESSAGE = (
  f'{IN_A_ROW} evaluations in a row reached run.solved_at, {MORE} evaluations'
  ' ago'
)
_RETURN = 'eval/return_mean'


def is_solved(
  rows: Sequence[Mapping[str, float]], solved_at: float | None
) -> bool:
  """Whether a run with these metrics is solved and at its end.

  Args:
    rows: the metrics, one row per iteration.
    solved_at: the return; with `None` no run is solved.

  Example:
    >>> import math
    >>> def row(value, seconds=1.0):
    ...   return {'eval/return_mean': value, 'time/eval_s': seconds}
    >>> # The second iteration has no evaluation.
    >>> rows = [row(7.0), row(math.nan, seconds=0.0), row(9.0), row(8.0)]
    >>> is_solved(rows, 7.0)
    False
    >>> rows += [row(3.0), row(math.nan), row(7.0)]
    >>> is_solved(rows, 7.0), is_solved(rows, 7.5)
    (True, False)
  """
  if solved_at is None:
    return False
  returns = [row[_RETURN] for row in metrics.evaluated(rows)]
  candidates = returns[: max(len(returns) - MORE, 0)]
  in_a_row = 0
  for value in candidates:
    in_a_row = in_a_row + 1 if value >= solved_at else 0
    if in_a_row == IN_A_ROW:
      return True
  return False


class Watch:
  """Follows runs that are trained together."""

  def __init__(
    self,
    runs: Sequence[run_lib.Run],
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
