"""Confidence intervals over seeds.

All intervals are 95% intervals of a mean over n independent runs, by Student's
t with the sample standard deviation. For two groups of runs, which may have
different variances, the degrees of freedom are Welch's (1947). With n = 1 there
is no standard deviation, and the interval is unbounded.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_LEVEL = 0.95


class Interval(NamedTuple):
  """An estimate with its confidence interval.

  Attributes:
    value: the estimate.
    low: the lower end.
    high: the upper end.
    num: number of runs n; the smaller one for two groups.
  """

  value: float
  low: float
  high: float
  num: int

  def text(self) -> str:
    """Formats `1.23 [0.9, 1.6], n = 3`."""
    return self._text(1.0, '')

  def percent(self) -> str:
    """Formats `12% [-3, 27], n = 3`."""
    return self._text(100.0, '%')

  def _text(self, factor: float, unit: str) -> str:
    value, low, high = (f'{factor * x:.3g}' for x in self[:3])
    ends = f'[{low}, {high}]'
    if not math.isfinite(self.low) and not math.isfinite(self.high):
      ends = '(no interval)'
    return f'{value}{unit} {ends}, n = {self.num}'


def mean(values: Sequence[float]) -> Interval:
  """Returns the interval of the mean: m +- t_{n-1} s / sqrt(n).

  Example:
    >>> mean([1.0, 2.0, 3.0]).text()
    '2 [-0.484, 4.48], n = 3'
  """
  samples = _samples(values)
  middle, variance = float(samples.mean()), _variance_of_mean(samples)
  return _interval(middle, variance, samples.size - 1, samples.size)


def difference(values: Sequence[float], others: Sequence[float]) -> Interval:
  """Returns the interval of mean(values) - mean(others)."""
  return _combined(values, others, 1.0, -1.0)


def improvement(values: Sequence[float], others: Sequence[float]) -> Interval:
  """Returns the interval of (a - b) / |b| of the groups' means a and b.

  a is the mean of `values`, b that of `others`. The variance is that of the
  delta method: to first order in the means' deviations,

    var = var(a) / b^2 + (a / b^2)^2 var(b).

  The interval is unbounded if the interval of b contains 0.
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
  """Returns the interval of the ratio of the groups' geometric means.

  All values must be positive.

  Example:
    >>> round(ratio([20.0, 20.0], [1.0, 4.0]).value, 6)
    10.0
  """
  groups = [_samples(x) for x in (values, others)]
  if not all((x > 0).all() for x in groups):
    raise ValueError('ratio: all numbers must be positive')
  made = difference(*(np.log(x).tolist() for x in groups))
  value = math.exp(min(made.value, 700.0))
  if not math.isfinite(made.low):
    return Interval(value, -math.inf, math.inf, made.num)
  low, high = (math.exp(min(x, 700.0)) for x in made[1:3])
  return Interval(value, low, high, made.num)


def correlation(values: Sequence[float]) -> Interval:
  """Returns the interval of the mean of correlations r, by z = artanh(r).

  There is one r per run.
  """
  bounded = np.clip(_samples(values), -1 + 1e-12, 1 - 1e-12)
  made = mean(np.arctanh(bounded).tolist())
  value, low, high = (math.tanh(x) for x in made[:3])
  return Interval(value, low, high, made.num)


def _samples(values: Sequence[float]) -> np.ndarray:
  samples = np.asarray(values, float)
  if samples.ndim != 1 or not samples.size:
    raise ValueError(
      f'values have shape {samples.shape}: must be [N], N >= 1 runs'
    )
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
  """The interval of weight * mean(values) + other_weight * mean(others)."""
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
