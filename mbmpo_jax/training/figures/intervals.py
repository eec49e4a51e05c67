"""Intervals over seeds: what a few runs say, and how surely.

Every interval is at 95% and of the mean over n independent runs, by Student's t
with the deviation that the runs have themselves; of two groups of runs, which
may spread differently, by Welch's (1947) degrees of freedom. With n = 1 there
is no deviation, and the interval is everything.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_LEVEL = 0.95


class Interval(NamedTuple):
  """A number that was estimated.

  Attributes:
    value: the estimate.
    low: the lower end.
    high: the upper end.
    num: of how many runs, n; of two groups, of the smaller one.
  """

  value: float
  low: float
  high: float
  num: int

  def text(self) -> str:
    """`1.23 [0.9, 1.6], n = 3`."""
    return self._text(1.0, '')

  def percent(self) -> str:
    """`12% [-3, 27], n = 3`."""
    return self._text(100.0, '%')

  def _text(self, factor: float, unit: str) -> str:
    value, low, high = (f'{factor * x:.3g}' for x in self[:3])
    ends = f'[{low}, {high}]'
    if not math.isfinite(self.low) and not math.isfinite(self.high):
      ends = '(no interval)'
    return f'{value}{unit} {ends}, n = {self.num}'


def mean(values: Sequence[float]) -> Interval:
  """Of the mean: m +- t_{n-1} s / sqrt(n).

  Example:
    >>> mean([1.0, 2.0, 3.0]).text()
    '2 [-0.484, 4.48], n = 3'
  """
  samples = _samples(values)
  middle, variance = float(samples.mean()), _variance_of_mean(samples)
  return _interval(middle, variance, samples.size - 1, samples.size)


def difference(values: Sequence[float], others: Sequence[float]) -> Interval:
  """Of the mean of `values` less that of `others`."""
  return _combined(values, others, 1.0, -1.0)


def improvement(values: Sequence[float], others: Sequence[float]) -> Interval:
  """Of (a - b) / |b|, where a and b are the means of `values` and `others`.

  By the delta method: to first order in the means' deviations,

    var = var(a) / b^2 + (a / b^2)^2 var(b).

  It is everything where b cannot be told from 0 by its own interval.
  """
  a, b = (float(_samples(x).mean()) for x in (values, others))
  own = mean(others)
  if own.low <= 0 <= own.high:
    value = (a - b) / abs(b) if b else math.nan
    num = min(len(values), len(others))
    return Interval(value, -math.inf, math.inf, num)
  # (a - b) / |b| = sign(b) (a / b - 1).
  sign = math.copysign(1.0, b)
  made = _combined(values, others, 1 / abs(b), -sign * a / b**2)
  value = (a - b) / abs(b)
  return Interval(
    value,
    value + made.low - made.value,
    value + made.high - made.value,
    made.num,
  )


def ratio(values: Sequence[float], others: Sequence[float]) -> Interval:
  """Of the ratio of the geometric means of two groups of positive numbers.

  Example:
    >>> round(ratio([20.0, 20.0], [1.0, 4.0]).value, 6)
    10.0
  """
  groups = [_samples(x) for x in (values, others)]
  if not all((x > 0).all() for x in groups):
    raise ValueError('ratio of numbers that are not positive')
  made = difference(*(np.log(x).tolist() for x in groups))
  value, low, high = (math.exp(min(x, 700.0)) for x in made[:3])
  return Interval(value, low, high, made.num)


def correlation(values: Sequence[float]) -> Interval:
  """Of the mean of correlations r, one per run, through z = artanh(r)."""
  bounded = np.clip(_samples(values), -1 + 1e-12, 1 - 1e-12)
  made = mean(np.arctanh(bounded).tolist())
  value, low, high = (math.tanh(x) for x in made[:3])
  return Interval(value, low, high, made.num)


def _samples(values: Sequence[float]) -> np.ndarray:
  samples = np.asarray(values, float)
  if samples.ndim != 1 or not samples.size:
    raise ValueError(f'{samples.shape}: must be numbers of at least one run')
  return samples


def _variance_of_mean(samples: np.ndarray) -> float:
  if samples.size == 1:
    return math.inf
  return float(samples.var(ddof=1)) / samples.size


def _combined(
  values: Sequence[float],
  others: Sequence[float],
  weight: float,
  other_weight: float,
) -> Interval:
  """Of weight * mean(values) + other_weight * mean(others)."""
  groups = [_samples(values), _samples(others)]
  weights = [weight, other_weight]
  middle = sum(
    w * float(x.mean()) for w, x in zip(weights, groups, strict=True)
  )
  parts = [
    w**2 * _variance_of_mean(x) if w else 0.0
    for w, x in zip(weights, groups, strict=True)
  ]
  num = min(x.size for x in groups)
  total = sum(parts)
  if not math.isfinite(total):
    return Interval(middle, -math.inf, math.inf, num)
  below = sum(
    part**2 / (x.size - 1)
    for part, x in zip(parts, groups, strict=True)
    if part
  )
  freedom = total**2 / below if below else 1.0
  return _interval(middle, total, freedom, num)


def _interval(
  middle: float, variance: float, freedom: float, num: int
) -> Interval:
  if not math.isfinite(variance):
    return Interval(middle, -math.inf, math.inf, num)
  half = float(stats.t.ppf(0.5 + _LEVEL / 2, freedom)) * math.sqrt(variance)
  return Interval(middle, middle - half, middle + half, num)
