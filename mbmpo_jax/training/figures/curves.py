"""Statistics of a run's evaluations: final return and sample efficiency."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import progress

# Evaluations to average over; a single one has only 20 episodes.
WINDOW = 3


class Curve(NamedTuple):
  """The evaluations of a run with finite returns.

  Attributes:
    steps: real transitions collected before each evaluation, [T].
    returns: mean undiscounted returns, [T].
    seconds: time of all phases until then, without evaluations and compilation,
      [T].
  """

  steps: np.ndarray
  returns: np.ndarray
  seconds: np.ndarray


def evaluations(rows: Sequence[Mapping[str, float]]) -> Curve:
  """Returns the curve of a run.

  Args:
    rows: the rows of its `metrics.jsonl`.
  """
  took = np.cumsum([_learning_seconds(row) for row in rows])
  evaluated = metrics.evaluated(rows)
  at = [index for index, row in enumerate(rows) if row['time/eval_s'] > 0]
  returns = plot.column(evaluated, 'eval/return_mean')
  shown = np.isfinite(returns)
  return Curve(
    plot.column(evaluated, 'env_steps')[shown],
    returns[shown],
    np.asarray(took, float)[at][shown],
  )


def until(curve: Curve, steps: float) -> Curve:
  """Returns the evaluations up to `steps` transitions; at least the first.

  Example:
    >>> x = np.array([100.0, 200.0, 300.0])
    >>> until(Curve(x, x / 10, x), 250).returns.tolist()
    [10.0, 20.0]
  """
  count = max(1, int(np.sum(curve.steps <= steps)))
  return Curve(*(x[:count] for x in curve))


def smoothed(curve: Curve, window: int = WINDOW) -> Curve:
  """Replaces each return by the mean of the last `window` up to it.

  Example:
    >>> x = np.array([1.0, 2.0, 3.0, 4.0])
    >>> smoothed(Curve(x, x, x), window=2).returns.tolist()
    [1.0, 1.5, 2.5, 3.5]
  """
  returns = [
    curve.returns[max(0, i + 1 - window) : i + 1].mean()
    for i in range(curve.returns.size)
  ]
  return curve._replace(returns=np.asarray(returns, float))


def final(curve: Curve, window: int = WINDOW) -> float:
  """Returns the final return: the mean of the last `window` evaluations.

  NaN if there is no evaluation.
  """
  last = curve.returns[-window:]
  return float(last.mean()) if last.size else math.nan


def finals(curves: Sequence[Curve], window: int = WINDOW) -> list[float]:
  """Returns the final returns of runs over the same transitions.

  The longer runs are cut where the shortest one ends. There, the returns are
  averaged over as many transitions as the last `window` evaluations of the run
  that is evaluated most rarely.

  Args:
    curves: of the runs, none of them empty.
    window: evaluations to average over, at least.

  Example:
    >>> x = np.array([100.0, 200.0, 300.0, 400.0])
    >>> often, rare = Curve(x, x, x), Curve(x[1::2], x[1::2], x[1::2])
    >>> finals([often, rare], window=1)
    [350.0, 400.0]
  """
  end = min(float(curve.steps[-1]) for curve in curves)
  cut = [until(curve, end) for curve in curves]
  span = max(
    end - float(curve.steps[-window - 1] if curve.steps.size > window else 0.0)
    for curve in cut
  )
  return [
    float(
      curve.returns[curve.steps > min(end - span, curve.steps[-1] - 1)].mean()
    )
    for curve in cut
  ]


def reached(
  curve: Curve, target: float, *, of: str = 'steps', window: int = WINDOW
) -> float | None:
  """Returns where the smoothed return first reaches `target`.

  It is interpolated linearly between two evaluations.

  Args:
    curve: the curve of a run.
    target: the return.
    of: `steps` or `seconds`, the unit of the result.
    window: evaluations to average over.

  Returns:
    Transitions or seconds; `None` if the return stays below `target`.

  Example:
    >>> x = np.array([100.0, 200.0])
    >>> reached(Curve(x, np.array([0.0, 10.0]), x / 50), 7.5, window=1)
    175.0
  """
  returns, where = smoothed(curve, window).returns, getattr(curve, of)
  above = np.flatnonzero(returns >= target)
  if not above.size:
    return None
  index = int(above[0])
  if index == 0:
    return float(where[0])
  below, at = returns[index - 1], returns[index]
  share = (target - below) / (at - below)
  return float(where[index - 1] + share * (where[index] - where[index - 1]))


def _learning_seconds(row: Mapping[str, float]) -> float:
  """Seconds of an iteration without evaluation, compilation and the like."""
  rest = row.get('time/eval_s', 0.0) + row.get('time/compile_s', 0.0)
  return progress.seconds(row) - rest
