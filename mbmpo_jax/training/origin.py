"""The line of code that the first number which is not finite comes from.

JAX's own means do not reach it here: `jax_debug_nans` looks at what a compiled
function returns, of which everything not finite has been rejected, and names
loops rather than what is in them; checkify has no rule for a loop under vmap.
So the program is gone through one operation at a time, on the very numbers.
"""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import broadcasting
from mbmpo_jax import errors
from mbmpo_jax.training import timing

_JAX = (str(pathlib.Path(jax.__file__).parent), '<')

Line = tuple[str, int, str]  # file, line, function


class Checked(timing.Timed):
  """A jitted function that raises where a number in it is not finite.

  As fast as it is without, until that happens; but its arguments' buffers are
  not reused, as they are what the search starts from.
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
    """Calls the function, whose last result is its metrics.

    A metric may be NaN, where there is no value.

    Raises:
      errors.NonFiniteError: if there is NaN in another result, or the metrics
        count what was not finite. It names the operation and the line.
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
  """Says in a line where the first number that is not finite comes from."""
  places = _places(args)
  if places:
    return f'it was given NaN in {", ".join(places[:3])}'
  return find(function, *args) or 'some are beyond +-1e10, but finite'


def find(function: Callable[..., Any], *args: Any) -> str | None:
  """The first operation that makes a number not finite of finite ones.

  Goes through what a call computes: first along what its result depends on in
  sight, then through everything, which is slow.

  Args:
    function: pure, of arrays.
    *args: what it is called with.

  Returns:
    `log at env.py:12 in reward`, or `None` if there is no such operation.
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
  """The operation and its line."""


def _evaluate(
  closed: jax.extend.core.ClosedJaxpr,
  args: Sequence[Any],
  caller: Line,
  thorough: bool,
) -> list[Any]:
  """Computes a program's results, one operation after the other.

  Args:
    closed: the program.
    args: what it is given.
    caller: the line that called it.
    thorough: looks into loops and calls whose results are all finite, too.

  Raises:
    _FoundError: at the first operation that is looked for.
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
  """The programs that a loop, a branch or a call runs, with their arguments.

  Of a loop only the steps that end in something not finite, if not `thorough`.
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
  if 'ft_in' in params:  # JAX 0.12
    consts, carry, xs = map(list, params['ft_in'].update(inputs).unpack())
  else:
    count = params['num_consts']
    last = count + params['num_carry']
    consts, carry, xs = inputs[:count], inputs[count:last], inputs[last:]
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
    # Under vmap, those that are done stand still.
    carry = [
      jnp.where(broadcasting.trailing(on, jnp.ndim(new)), new, old)
      for new, old in zip(step(*args), carry, strict=True)
    ]
    if thorough or not all(map(_is_finite, carry)):
      yield body, args


def _line(eqn: Any, caller: Line) -> Line:
  """The line of an operation, the innermost outside of JAX.

  Functions of JAX are traced once for all who call them, and know none of them.
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
  """The paths of a tree's leaves with NaN in them."""
  return [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree.leaves_with_path(tree)
    if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    and np.any(np.isnan(np.asarray(leaf, float)))
  ]
