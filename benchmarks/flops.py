"""Counts the arithmetic and the memory traffic of a program's matrix products.

Bytes are those of every product's operands and result, as if none of them were
in a cache. Both counts are read from the jaxpr. The body of a scan is counted
as often as the scan is long. The number of iterations of a while-loop and the
branch of a conditional are known only at run time, so a program with products
in such a block is run once, with a counter for each block. XLA's cost analysis
counts every body once.

The jaxpr is the requested computation: XLA may still merge equal products. The
condition of a while-loop is assumed to have no products.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import partial_eval

from benchmarks import counts as counts_lib
from mbmpo_jax import broadcasting
from mbmpo_jax import compat

# Parameters with the blocks whose number of runs is known only at run time.
_COUNTED = {'while': 'body_jaxpr', 'cond': 'branches'}
# The primitive of `policies/samples_last.py`.
_MATRIX_PRODUCT = 'samples_last_product'


def matmul_flops(fn: Callable[..., Any], *args: Any) -> float:
  """Returns the FLOPs of `matmul_count`."""
  return matmul_count(fn, *args).flops


def matmul_count(fn: Callable[..., Any], *args: Any) -> counts_lib.Count:
  """Counts FLOPs and bytes of the matrix products in one call of `fn`.

  Args:
    fn: a pure function of arrays.
    *args: its arguments, which determine how often loops run.
  """
  closed = jax.make_jaxpr(fn)(*args)
  # Without dead code, as it will be compiled.
  jaxpr, _ = partial_eval.dce_jaxpr(
    closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True
  )
  blocks = {id(block): block for block in _blocks(jaxpr)}
  total = _static(jaxpr)
  if blocks:
    counter = _Counter(list(blocks))
    runs = jax.jit(lambda *leaves: counter.run(jaxpr, closed.consts, leaves))(
      *jax.tree.leaves(args)
    )
    for count, block in zip(runs.tolist(), blocks.values(), strict=True):
      total += count * _static(block)
  return total


def _static(jaxpr: Any) -> counts_lib.Count:
  """Counts the products outside counted blocks."""
  total = counts_lib.Count(0, 0)
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      total += _dot_general(equation)
    elif name == _MATRIX_PRODUCT:
      total += _matrix_product(equation)
    elif name not in _COUNTED:
      trips = params['length'] if name == 'scan' else 1
      for inner in _jaxprs(params):
        total += trips * _static(inner)
  return total


def _dot_general(equation: Any) -> counts_lib.Count:
  (contracted, _), _ = equation.params['dimension_numbers']
  arrays = [atom.aval for atom in (*equation.invars, *equation.outvars)]
  summed = math.prod(arrays[0].shape[axis] for axis in contracted)
  return counts_lib.Count(
    2 * summed * arrays[-1].size,
    sum(array.size * array.dtype.itemsize for array in arrays),
  )


def _matrix_product(equation: Any) -> counts_lib.Count:
  """Counts a product of two matrices, either of which may be transposed."""
  arrays = [atom.aval for atom in (*equation.invars, *equation.outvars)]
  # Each of its three sizes is an axis of two of the three matrices.
  triple = math.isqrt(math.prod(array.size for array in arrays))
  return counts_lib.Count(
    2 * triple, sum(array.size * array.dtype.itemsize for array in arrays)
  )


def _blocks(jaxpr: Any) -> Iterator[Any]:
  """Yields the counted blocks with products of their own, outer ones first."""
  for equation in jaxpr.eqns:
    yield from _blocks_of(equation)


def _blocks_of(equation: Any) -> Iterator[Any]:
  """Yields the counted blocks that an equation is or contains."""
  counted = _COUNTED.get(equation.primitive.name)
  inner = equation.params if counted is None else equation.params[counted]
  for block in _jaxprs(inner):
    if counted is not None and _static(block).flops:
      yield block
    yield from _blocks(block)


def _jaxprs(params: Any) -> Iterator[Any]:
  """Yields the jaxprs among an equation's parameters, closed or not."""
  for closed in _maybe_closed(params):
    yield getattr(closed, 'jaxpr', closed)


def _maybe_closed(params: Any) -> Iterator[Any]:
  values = params.values() if isinstance(params, dict) else (params,)
  for value in values:
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if hasattr(getattr(item, 'jaxpr', item), 'eqns'):
        yield item


class _Counter:
  """Runs a jaxpr and counts how often some of its blocks run."""

  def __init__(self, blocks: Sequence[int]) -> None:
    """Makes one counter for each of `blocks`, the identities of jaxprs."""
    self._index = {block: index for index, block in enumerate(blocks)}

  def run(
    self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]
  ) -> jax.Array:
    """Returns the counts of one run, int32 `[blocks]`."""
    counts = jnp.zeros(len(self._index), jnp.int32)
    return self._evaluate(jaxpr, consts, counts, args)[0]

  def _call(
    self, called: Any, counts: jax.Array, args: Sequence[Any]
  ) -> tuple[jax.Array, list]:
    """Runs a jaxpr, closed or without constants; returns counts and results."""
    jaxpr = getattr(called, 'jaxpr', called)
    consts = getattr(called, 'consts', ())
    return self._evaluate(jaxpr, consts, counts, args)

  def _evaluate(
    self,
    jaxpr: Any,
    consts: Sequence[Any],
    counts: jax.Array,
    args: Sequence[Any],
  ) -> tuple[jax.Array, list]:
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
      return atom.val if isinstance(atom, core.Literal) else values[atom]

    if id(jaxpr) in self._index:
      counts = counts.at[self._index[id(jaxpr)]].add(1)
    for equation in jaxpr.eqns:
      inputs = [read(atom) for atom in equation.invars]
      if next(_blocks_of(equation), None) is None:
        params = equation.primitive.get_bind_params(equation.params)
        results = equation.primitive.bind(*inputs, **params)
        if not equation.primitive.multiple_results:
          results = [results]
      else:
        counts, results = self._enter(equation, counts, inputs)
      values.update(zip(equation.outvars, results, strict=True))
    return counts, [read(atom) for atom in jaxpr.outvars]

  def _enter(
    self, equation: Any, counts: jax.Array, inputs: list
  ) -> tuple[jax.Array, Sequence[Any]]:
    """Runs one equation that contains counted blocks."""
    name, params = equation.primitive.name, equation.params
    if name == 'while':
      return self._while(params, counts, inputs)
    if name == 'scan':
      return self._scan(params, counts, inputs)
    if name == 'cond':
      index, *operands = inputs
      branches = [
        lambda counts, *args, branch=branch: self._call(branch, counts, args)
        for branch in params['branches']
      ]
      return jax.lax.switch(
        jnp.asarray(index, jnp.int32), branches, counts, *operands
      )
    if name == 'shard_map':
      return self._shard_map(params, counts, inputs)
    # A call: jit, a custom derivative, a checkpoint.
    (called, *_) = _maybe_closed(params)
    return self._call(called, counts, inputs)

  def _shard_map(
    self, params: dict[str, Any], counts: jax.Array, inputs: list
  ) -> tuple[jax.Array, Sequence[Any]]:
    """Counts on one device; all devices run the same blocks equally often."""
    everywhere = jax.sharding.PartitionSpec()
    return jax.shard_map(
      lambda counts, inputs: self._call(params['jaxpr'], counts, inputs),
      mesh=params['mesh'],
      in_specs=(everywhere, list(params['in_specs'])),
      out_specs=(everywhere, list(params['out_specs'])),
      check_vma=False,
    )(counts, inputs)

  def _while(
    self, params: dict[str, Any], counts: jax.Array, inputs: list
  ) -> tuple[jax.Array, list]:
    first = params['cond_nconsts']
    second = first + params['body_nconsts']
    test_consts, consts = inputs[:first], inputs[first:second]
    condition = core.jaxpr_as_fun(params['cond_jaxpr'])

    def test(state: list) -> jax.Array:
      return condition(*test_consts, *state)[0]

    def body(carry: tuple[jax.Array, list]) -> tuple[jax.Array, list]:
      counts, state = carry
      counts, new = self._call(params['body_jaxpr'], counts, [*consts, *state])
      # In a batch of loops, those that have ended do not change.
      going = test(state)
      return counts, [
        jnp.where(broadcasting.trailing(going, after.ndim), after, before)
        for after, before in zip(new, state, strict=True)
      ]

    return jax.lax.while_loop(
      lambda carry: jnp.any(test(carry[1])), body, (counts, inputs[second:])
    )

  def _scan(
    self, params: dict[str, Any], counts: jax.Array, inputs: list
  ) -> tuple[jax.Array, list]:
    consts, start, sequences = compat.scan_parts(params, inputs)

    def body(carry: Any, xs: Any) -> Any:
      counts, state = carry
      counts, results = self._call(
        params['jaxpr'], counts, [*consts, *state, *xs]
      )
      return (counts, results[: len(start)]), results[len(start) :]

    (counts, state), stacked = jax.lax.scan(
      body,
      (counts, start),
      sequences,
      length=params['length'],
      reverse=params['reverse'],
    )
    return counts, [*state, *stacked]
