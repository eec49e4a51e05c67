"""Estimates the memory of a traced program before it is compiled.

The estimate follows the program's equations in the order in which XLA schedules
them. It adds the size of each result and subtracts a variable after its last
use. Elementwise operations count as fused into the operations that use them. A
result of an in-place update, or of an operation on a donated buffer, reuses the
memory of its operand. The estimate is in bytes for one device.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from mbmpo_jax import compat

# Operations that XLA fuses into their consumers and never stores.
_FUSED = frozenset(
  """
  abs add add_any and atan2 broadcast_in_dim cbrt ceil clamp conj copy copy_p
  convert_element_type cos cosh device_put div eq erf erf_inv exp exp2 expm1
  expand_dims floor ge gt imag integer_pow iota is_finite le lgamma log log1p
  logistic lt max min mul ne neg nextafter not optimization_barrier or pad
  population_count pow random_unwrap random_wrap real reduce_precision rem
  reshape rev round rsqrt select_n shift_left shift_right_arithmetic
  shift_right_logical sign sin sinh slice sqrt square squeeze stop_gradient sub
  tan tanh transpose xor
  """.split()  # noqa: SIM905
)
# Reductions read fused operands without storing them.
_REDUCE = ('reduce_', 'arg')
# The results of these operations reuse operands that are not read again.
_IN_PLACE = ('scan', 'while', 'cond', 'dynamic_update_slice', 'scatter')
_CALLS = (
  'pjit',
  'jit',
  'closed_call',
  'core_call',
  'remat',
  'checkpoint',
  'custom_jvp_call',
  'custom_vjp_call',
  'custom_vjp_call_jaxpr',
  'custom_lin',
)


class _Step(NamedTuple):
  """An equation, with variables numbered over the whole program."""

  name: str
  params: Mapping[str, Any]
  read: tuple[int | None, ...]  # `None` for literals
  written: tuple[int, ...]


class _Program(NamedTuple):
  """Equations in order, with calls inlined."""

  steps: list[_Step]
  size: dict[int, int]  # bytes of a variable
  shape: dict[int, Any]
  inputs: list[int]
  constants: list[int]
  outputs: list[int | None]


def of_program(jaxpr: core.ClosedJaxpr, donated: Sequence[bool] = ()) -> int:
  """Returns the largest number of bytes that are live at once.

  Arguments and results are included.

  Args:
    jaxpr: the result of `jax.jit(function).trace(...).jaxpr`.
    donated: for each argument, whether its buffer may be reused; by default
      none is.
  """
  program = _flatten(jaxpr.jaxpr)
  owned = {
    variable
    for variable, given in zip(program.inputs, donated, strict=False)
    if given
  }
  return _peak(program, owned)


def of_tree(tree: Any) -> int:
  """Returns the bytes of all arrays, or shape structs, of a pytree."""
  return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _bytes(array: Any) -> int:
  shape = getattr(array, 'shape', ())
  dtype = getattr(array, 'dtype', None)
  size = getattr(dtype, 'itemsize', 4)
  return math.prod(shape) * int(size)


def _peak(program: _Program, owned: set[int]) -> int:
  stored = _stored(program)
  last = _last_reads(program, stored)
  size, shape = program.size, program.shape
  live = sum(size[v] for v in {*program.inputs, *program.constants})
  owned = set(owned)
  held = {v: size[v] for v in (*program.inputs, *program.constants)}
  dying: dict[int, list[int]] = {}
  for variable, end in last.items():
    dying.setdefault(end, []).append(variable)
  peak = live
  known: dict[int, int] = {}
  for index, step in enumerate(program.steps):
    if step.name == 'platform_index':
      known[step.written[0]] = _platform(step.params)
    elif step.name in ('convert_element_type', 'clamp', 'copy'):
      for source in step.read:
        if source is not None and source in known:
          known[step.written[0]] = known[source]
    ends = [
      v
      for v in dict.fromkeys(step.read)
      if v is not None and last.get(v) == index and v in owned
    ]
    new = 0
    for variable in step.written:
      if variable not in stored:
        continue
      taken = None
      if step.name in _FUSED or step.name.startswith(_IN_PLACE):
        taken = next((v for v in ends if shape[v] == shape[variable]), None)
      held[variable] = size[variable]
      owned.add(variable)
      if taken is None:
        new += size[variable]
      else:  # The result reuses the operand's bytes.
        ends.remove(taken)
        held[taken] = 0
    inner = _inner(step, known)
    # The last result of the branch is the result of the `cond`.
    at_once = max(inner, new) if step.name == 'cond' else inner + new
    peak = max(peak, live + at_once)
    live += new
    for variable in dying.get(index, ()):
      if variable in owned:
        live -= held.pop(variable, 0)
  return peak


def _inner(step: _Step, known: Mapping[int, int]) -> int:
  """Returns the bytes that subprograms of a step need beside arguments."""
  bodies = [*_jaxprs(step.params)]
  if not bodies:
    return 0
  chosen = step.read[0] if step.name == 'cond' else None
  if chosen is not None and chosen in known:
    bodies = [bodies[known[chosen]]]
  needs = []
  for body in bodies:
    program = _flatten(body)
    owned: set[int] = set()
    if step.name == 'scan':
      _, carry, _ = compat.scan_parts(step.params, program.inputs)
      owned = set(carry)
    elif step.name == 'while':
      owned = set(program.inputs[step.params['body_nconsts'] :])
    given = sum(program.size[v] for v in set(program.inputs))
    needs.append(_peak(program, owned) - given)
  return max(needs)


def _jaxprs(params: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item


def _stored(program: _Program) -> set[int]:
  """Returns the variables that are stored in memory."""
  stored = {v for v in program.outputs if v is not None}
  for step in program.steps:
    if step.name not in _FUSED:
      stored.update(step.written)
      if not step.name.startswith(_REDUCE):
        stored.update(v for v in step.read if v is not None)
  return stored


def _last_reads(program: _Program, stored: set[int]) -> dict[int, int]:
  """Returns for each variable the last step that reads it.

  Outputs are never freed; they have the number of steps.
  """
  end = len(program.steps)
  last = {v: end for v in program.outputs if v is not None}
  for index in reversed(range(end)):
    step = program.steps[index]
    # A fused operation is computed in the step that reads its result.
    when = max(
      [index, *(last.get(v, index) for v in step.written if v not in stored)]
    )
    for variable in step.read:
      if variable is not None:
        last[variable] = max(last.get(variable, 0), when)
    for variable in step.written:
      last.setdefault(variable, index)
  return last


def _platform(params: Mapping[str, Any]) -> int:
  """Returns the index of a program's version for the current platform."""
  for index, platforms in enumerate(params['platforms']):
    if platforms is None or jax.default_backend() in platforms:
      return index
  return 0


def _flatten(jaxpr: core.Jaxpr) -> _Program:
  program = _Program([], {}, {}, [], [], [])

  def new(variable: Any) -> int:
    number = len(program.size)
    program.size[number] = _bytes(variable.aval)
    aval = variable.aval
    program.shape[number] = (
      getattr(aval, 'shape', ()),
      getattr(aval, 'dtype', None),
    )
    return number

  def walk(body: core.Jaxpr, names: dict[Any, int | None]) -> None:
    def number(variable: Any) -> int | None:
      return None if isinstance(variable, core.Literal) else names[variable]

    for equation in body.eqns:
      read = tuple(number(v) for v in equation.invars)
      name = equation.primitive.name
      inner = [*_jaxprs(equation.params)]
      if name in _CALLS and inner:
        called = inner[0]
        # The constants of a call precede its arguments, or belong to its jaxpr.
        own = {v: new(v) for v in called.constvars}
        program.constants.extend(own.values())
        values = read[len(read) - len(called.invars) :]
        own_names: dict[Any, int | None] = {
          **own,
          **dict(zip(called.invars, values, strict=True)),
        }
        walk(called, own_names)
        for outer, result in zip(equation.outvars, called.outvars, strict=True):
          names[outer] = (
            None if isinstance(result, core.Literal) else own_names[result]
          )
        continue
      written = tuple(new(v) for v in equation.outvars)
      names.update(zip(equation.outvars, written, strict=True))
      program.steps.append(_Step(name, equation.params, read, written))

  names: dict[Any, int | None] = {}
  for variables, numbers in (
    (jaxpr.constvars, program.constants),
    (jaxpr.invars, program.inputs),
  ):
    for variable in variables:
      found = new(variable)
      names[variable] = found
      numbers.append(found)
  walk(jaxpr, names)
  program.outputs.extend(
    None if isinstance(v, core.Literal) else names[v] for v in jaxpr.outvars
  )
  return program
