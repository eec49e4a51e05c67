"""Counts the floating-point operations of a program's matrix products."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def matmul_flops(fn: Callable[..., Any], *args: Any) -> int:
  """Multiplications and additions of the matrix products in one call of `fn`.

  Read off the jaxpr: a scan's body counts as often as it runs, which XLA's own
  cost analysis does not know. A while-loop's body counts once, as the number of
  its trips is not known before it runs.
  """
  return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      total += _dot_general(equation)
    is_scan = equation.primitive.name == 'scan'
    trips = equation.params['length'] if is_scan else 1
    inner = [_count(jaxpr) for jaxpr in _jaxprs(equation.params)]
    # One branch of a conditional runs; at most the most expensive one.
    runs = max if equation.primitive.name == 'cond' else sum
    total += trips * runs(inner or [0])
  return total


def _dot_general(equation: Any) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  shape = equation.invars[0].aval.shape
  summed = math.prod(shape[axis] for axis in contracted)
  return 2 * summed * math.prod(equation.outvars[0].aval.shape)


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
  """The jaxprs among an equation's parameters, closed or not."""
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      item = getattr(item, 'jaxpr', item)
      if hasattr(item, 'eqns'):
        yield item
