"""Finds the line of code that produces the first non-finite number.

JAX's own tools do not help here. `jax_debug_nans` inspects the results of
compiled functions, from which non-finite numbers have already been removed, and
it reports a loop rather than an operation in it. checkify does not support a
loop under vmap. This module therefore evaluates the program one operation at a
time on the same numbers.
"""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import broadcasting
from mbmpo_jax import compat
from mbmpo_jax import errors
from mbmpo_jax.training import timing

_JAX = (str(pathlib.Path(jax.__file__).parent), '<')

Line = tuple[str, int, str]  # file, line, function


class Checked(timing.Timed):
  """A jitted function that raises an error if one of its numbers is not finite.

  It is as fast as without the check until that happens. Its arguments are not
  donated, because the search starts from them.
  """

  def __init__(
    self,
    function: Callable[..., Any],
    *,
    name: str = 'a program',
    donate_argnums: tuple[int, ...] = (),
    compiler_options: dict[str, str] | None = None,
  ) -> None:
    """As `Timed`, but donates nothing."""
    del donate_argnums
    super().__init__(function, name=name, compiler_options=compiler_options)
    self._function = function

  def __call__(self, *args: Any) -> Any:
    """Calls the function, whose last result must be its metrics.

    A metric may be NaN, which means that it has no value.

    Raises:
      errors.NonFiniteError: if another result contains NaN, or the metrics
        count non-finite numbers. The message names the operation and its line.
    """
    result = super().__call__(*args)
    *others, metrics = result
    counted = [
      name
      for name, value in metrics.items()
      if name.startswith('nonfinite/') and np.any(np.asarray(value) > 0)
    ]
    if counted or _places(others):
      counts = f' ({", ".join(counted)})' if counted else ''
      raise errors.NonFiniteError(
        f'{self.name}: not all numbers are finite{counts}:'
        f' {explain(self._function, *args)}'
      )
    return result


def explain(function: Callable[..., Any], *args: Any) -> str:
  """Describes in one line where the first non-finite number comes from."""
  places = _places(args)
  if places:
    return f'its inputs contain NaN in {", ".join(places[:3])}'
  return find(function, *args) or 'some are beyond +-1e10, but finite'


def find(function: Callable[..., Any], *args: Any) -> str | None:
  """Finds the first operation with finite inputs and a non-finite result.

  The search first enters only loops and calls with non-finite results, then all
  of them, which is slow.

  Args:
    function: a pure function of arrays.
    *args: its arguments.

  Returns:
    Such as `log at env.py:12 in reward`, or `None` if there is no such
    operation.
  """
  closed = jax.make_jaxpr(function)(*args)
  unknown = ('unknown file', 0, 'unknown function')
  for thorough in (False, True):
    try:
      _evaluate(closed, jax.tree.leaves(args), unknown, thorough)
    except _FoundError as found:
      return str(found)
  return None


class _FoundError(Exception):
  """Names the operation that was found and its line."""


def _evaluate(
  closed: jax.extend.core.ClosedJaxpr,
  args: Sequence[Any],
  caller: Line,
  thorough: bool,
) -> list[Any]:
  """Computes a program's results, one operation after the other.

  Args:
    closed: the program.
    args: its arguments.
    caller: the line that called it.
    thorough: whether to search loops and calls whose results are all finite.

  Raises:
    _FoundError: at the first operation with finite inputs and a non-finite
      result.
  """
  jaxpr = getattr(closed, 'jaxpr', closed)
  variables = [*jaxpr.constvars, *jaxpr.invars]
  consts = getattr(closed, 'consts', ())
  values: dict[Any, Any] = dict(zip(variables, [*consts, *args], strict=True))

  def read(atom: Any) -> Any:
    if isinstance(atom, jax.extend.core.Literal):
      return atom.val
    return values[atom]

  for eqn in jaxpr.eqns:
    inputs = [read(atom) for atom in eqn.invars]
    with eqn.ctx.manager:
      outputs = eqn.primitive.bind(
        *inputs, **eqn.primitive.get_bind_params(eqn.params)
      )
    if not eqn.primitive.multiple_results:
      outputs = [outputs]
    unsound = not all(map(_is_finite, outputs))
    if unsound or thorough:
      for inner, inner_args in _parts(eqn, inputs, thorough):
        _evaluate(inner, inner_args, _line(eqn, caller), thorough)
    if unsound and all(map(_is_finite, inputs)):
      file, line, name = _line(eqn, caller)
      raise _FoundError(f'{eqn.primitive.name} at {file}:{line} in {name}')
    values.update(zip(eqn.outvars, outputs, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _parts(
  eqn: Any, inputs: list[Any], thorough: bool
) -> Iterator[tuple[jax.extend.core.ClosedJaxpr, list[Any]]]:
  """Yields the subprograms of a loop, branch or call, with their arguments.

  Of a loop it yields only the steps with non-finite results, unless `thorough`.
  """
  params = eqn.params
  match eqn.primitive.name:
    case 'scan':
      yield from _scan_steps(params, inputs, thorough)
    case 'while':
      yield from _while_steps(params, inputs, thorough)
    case 'cond':
      index, *rest = inputs
      yield params['branches'][int(index)], rest
    case _:
      for name in ('jaxpr', 'call_jaxpr', 'fun_jaxpr'):
        if hasattr(params.get(name), 'eqns'):
          yield params[name], inputs
          return


def _scan_steps(
  params: Any, inputs: list[Any], thorough: bool
) -> Iterator[Any]:
  body = params['jaxpr']
  consts, carry, xs = compat.scan_parts(params, inputs)
  step = jax.jit(jax.extend.core.jaxpr_as_fun(body))
  times = range(params['length'])
  for time in reversed(times) if params['reverse'] else times:
    args = [*consts, *carry, *(x[time] for x in xs)]
    outputs = step(*args)
    if thorough or not all(map(_is_finite, outputs)):
      yield body, args
    carry = outputs[: len(carry)]


def _while_steps(
  params: Any, inputs: list[Any], thorough: bool
) -> Iterator[Any]:
  body, cond = params['body_jaxpr'], params['cond_jaxpr']
  first = params['cond_nconsts']
  last = first + params['body_nconsts']
  cond_consts, consts, carry = inputs[:first], inputs[first:last], inputs[last:]
  going, step = (
    jax.jit(jax.extend.core.jaxpr_as_fun(part)) for part in (cond, body)
  )
  while np.any(on := going(*cond_consts, *carry)[0]):
    args = [*consts, *carry]
    # Under vmap, elements whose loop has ended do not change.
    carry = [
      jnp.where(broadcasting.trailing(on, jnp.ndim(new)), new, old)
      for new, old in zip(step(*args), carry, strict=True)
    ]
    if thorough or not all(map(_is_finite, carry)):
      yield body, args


def _line(eqn: Any, caller: Line) -> Line:
  """Returns the line of an operation, the innermost outside JAX.

  JAX traces its own functions once for all callers, so their operations have no
  caller's line; then `caller` is used.
  """
  traceback = eqn.source_info.traceback
  for frame in traceback.frames if traceback else ():
    if not frame.file_name.startswith(_JAX):
      return frame.file_name, frame.line_num, frame.function_name
  return caller


def _is_finite(x: Any) -> bool:
  if not jnp.issubdtype(jnp.result_type(x), jnp.inexact):
    return True
  return bool(np.all(np.isfinite(np.asarray(x, float))))


def _places(tree: Any) -> list[str]:
  """Returns the paths of leaves that contain NaN."""
  return [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree.leaves_with_path(tree)
    if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    and np.any(np.isnan(np.asarray(leaf, float)))
  ]
