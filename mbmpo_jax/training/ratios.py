"""Ratios of returns predicted by models to real returns.

A metric with `base.Metric.against` is a return predicted by a model; `against`
names the metric of the real return. Their ratio is logged as a further column.
"""

import math
from collections.abc import Mapping

from mbmpo_jax.algorithms import base


def ratios(
  declared: Mapping[str, base.Metric], row: Mapping[str, float]
) -> dict[str, float]:
  """Returns the column `<name>_ratio` of every metric with an `against`.

  Args:
    declared: the declared metrics.
    row: the metrics of one iteration.

  Returns:
    The ratios by column name; NaN if the real return is missing or not
    positive.

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
      found[column(name)] = ratio
  return found


def column(name: str) -> str:
  """The name of the ratio's column."""
  return f'{name}_ratio'
