"""Sums of metrics over many steps inside a program."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types


class Tally(NamedTuple):
  """Sums of metrics; values that are not finite are left out."""

  total: types.Metrics
  num: types.Metrics  # number of values


def start(names: Iterable[str]) -> Tally:
  """An empty tally of metrics with these names.

  Example:
    >>> tally = add(start(['loss']), {'loss': jnp.array([1.0, jnp.nan, 3.0])})
    >>> float(summary(tally)['loss'])
    2.0
  """
  names = tuple(names)
  # Each leaf has its own buffer: XLA cannot donate one buffer twice.
  zeros = [{name: jnp.zeros(()) for name in names} for _ in range(2)]
  return Tally(*zeros)


def add(tally: Tally, metrics: types.Metrics) -> Tally:
  """Adds values of some of the metrics, of any shape, to the sums."""
  total, num = dict(tally.total), dict(tally.num)
  for name, values in metrics.items():
    finite = jnp.isfinite(values)
    total[name] = total[name] + jnp.sum(jnp.where(finite, values, 0.0))
    num[name] = num[name] + jnp.sum(finite, dtype=num[name].dtype)
  return Tally(total, num)


def summary(tally: Tally, *, sums: Collection[str] = ()) -> types.Metrics:
  """Means over all values (NaN if there are none), or sums.

  Args:
    tally: the sums and numbers of values.
    sums: metrics that are summed, in addition to all `nonfinite/...`.
  """

  def reduce(name: str, total: jax.Array, num: jax.Array) -> jax.Array:
    if name in sums or name.startswith('nonfinite/'):
      return total
    return jnp.where(num > 0, total / jnp.maximum(num, 1), jnp.nan)

  return {
    name: reduce(name, total, tally.num[name])
    for name, total in tally.total.items()
  }
