"""Ends a run whose evaluations have reached a given return.

A run is solved if its last `IN_A_ROW` evaluations have a mean return of at
least `run.solved_at`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `run` imports modules that import this one.
  from mbmpo_jax.training import run as run_lib

IN_A_ROW = 3
_RETURN = 'eval/return_mean'


def is_solved(
  rows: Sequence[Mapping[str, float]], solved_at: float | None
) -> bool:
  """Whether a run with these metrics is solved.

  Args:
    rows: the metrics, one row per iteration.
    solved_at: the return; with `None` no run is solved.

  Example:
    >>> rows = [{'eval/return_mean': x} for x in (9.0, 7.0, math.nan, 8.0, 7.5)]
    >>> is_solved(rows, 7.0), is_solved(rows, 7.2)
    (True, False)
  """
  if solved_at is None:
    return False
  returns = [float(row.get(_RETURN, math.nan)) for row in rows]
  newest = [x for x in returns if math.isfinite(x)][-IN_A_ROW:]
  return len(newest) == IN_A_ROW and min(newest) >= solved_at


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
    for seen, row in zip(self._rows, rows, strict=True):
      seen.append(row)

  @property
  def solved(self) -> bool:
    """Whether all runs are solved."""
    return all(is_solved(seen, self._solved_at) for seen in self._rows)
