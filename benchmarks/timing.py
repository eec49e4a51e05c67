"""Timing that is robust against other load on the machine.

Before every repetition the machine's matrix-product rate is measured, and rates
are reported as fractions of it: another process that takes half the machine
halves both.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import backend

_MATMUL_SIZES = (512, 1024, 2048)
_LARGER_SIZES = (4096, 8192)  # not on a CPU
_MATMUL_S = 0.01  # approximate minimal time per size


@dataclasses.dataclass
class Timing:
  """One measured program.

  Attributes:
    name: the program's name.
    compile_s: seconds to trace, lower and compile it.
    seconds: seconds of one run, one entry per repetition.
    work: units done per run, such as environment steps.
    unit: the unit of `work`.
    flops: floating-point operations per run, if counted.
    fractions: fractions of the matrix-product rate, one per repetition, if
      `flops` is known.
  """

  name: str
  compile_s: float
  seconds: list[float]
  work: float
  unit: str
  flops: float | None
  fractions: list[float] | None

  @property
  def median_s(self) -> float:
    """Median seconds of a repetition."""
    return statistics.median(self.seconds)

  def row(self) -> str:
    """A line of the printed table."""
    per_second = self.work / self.median_s
    digits = f'{per_second:,.0f}' if per_second >= 100 else f'{per_second:.3g}'
    rate = f'{digits} {self.unit}/s'
    fraction = f'{statistics.median(self.fractions or [float("nan")]):.0%}'
    return (
      f'{self.name:<24} {self.median_s:>9.3f} {min(self.seconds):>9.3f} '
      f'{self.compile_s:>9.1f} {fraction if self.fractions else "":>9}   {rate}'
    )


HEADER = (
  f'{"measured":<24} {"median s":>9} {"best s":>9} {"compile s":>9} '
  f'{"of matmul":>9}   rate'
)


class MatmulRate:
  """The machine's float32 matrix-product rate, the best over several shapes."""

  def __init__(self, precision: str) -> None:
    """Compiles the products.

    Args:
      precision: that of the measured programs.
    """
    self._product = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
    on_cpu = jax.default_backend() == 'cpu'
    self._calls: list[tuple[jax.Array, int]] = []
    for n in _MATMUL_SIZES if on_cpu else _MATMUL_SIZES + _LARGER_SIZES:
      operand = jax.random.normal(jax.random.PRNGKey(n), (n, n))
      self._mean_seconds(operand, 1)  # compiles it
      fill = math.ceil(_MATMUL_S / self._mean_seconds(operand, 1))
      self._calls.append((operand, max(fill, int(4e9 / (2 * n**3)))))
    self.history: list[float] = []

  def __call__(self) -> float:
    """Measures the rate in FLOP/s."""
    best = max(
      2 * operand.shape[0] ** 3 / self._mean_seconds(operand, calls)
      for operand, calls in self._calls
    )
    self.history.append(best)
    return best

  def _mean_seconds(self, operand: jax.Array, calls: int) -> float:
    """Returns the mean seconds of a product in `calls` consecutive ones."""
    start = time.perf_counter()
    for _ in range(calls):
      result = self._product(operand)
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / calls


@dataclasses.dataclass
class Program:
  """A compiled program to be timed.

  Attributes:
    name: the program's name.
    compiled: the program.
    args: its arguments.
    compile_s: seconds to trace, lower and compile it.
    work: units done per run, such as environment steps.
    unit: the unit of `work`.
    flops: floating-point operations per run, if counted.
    runs: consecutive runs in one call.
  """

  name: str
  compiled: Callable[..., Any]
  args: tuple[Any, ...]
  compile_s: float
  work: float
  unit: str
  flops: float | None
  runs: int = 1


def compile_program(
  name: str,
  fn: Callable[..., Any],
  *args: Any,
  work: float,
  unit: str,
  flops: float | None = None,
  runs: int = 1,
) -> Program:
  """Compiles `fn` for its arguments and measures the compilation."""
  start = time.perf_counter()
  program = compiled(fn, *args)
  compile_s = time.perf_counter() - start
  return Program(name, program, args, compile_s, work, unit, flops, runs)


def compiled(fn: Callable[..., Any], *args: Any) -> Callable[..., Any]:
  """Compiles `fn` for these arrays, as a run that keeps them would."""
  options = backend.compiler_options(jax.tree.leaves(args)[0].sharding)
  return jax.jit(fn, compiler_options=options).lower(*args).compile()


def alternate(
  programs: Sequence[Program],
  *,
  rate: MatmulRate,
  repeats: int,
  at_least_s: float = 0.0,
) -> list[Timing]:
  """Times programs in turn, `repeats` times, after one warm-up of each.

  Other load affects consecutive programs equally, so the ratios of their times
  remain valid when the times do not. The machine's rate is measured between any
  two of them. A repetition calls a program as often as fits into `at_least_s`
  seconds, by the time of its warm-up, and takes the mean, so that a short
  program is also measured over a longer time.
  """
  calls = [max(1, math.ceil(at_least_s / _seconds(p, 1))) for p in programs]
  seconds: list[list[float]] = [[] for _ in programs]
  fractions: list[list[float]] = [[] for _ in programs]
  before = rate()
  for _ in range(repeats):
    for index, program in enumerate(programs):
      seconds[index].append(_seconds(program, calls[index]) / program.runs)
      after = rate()
      if program.flops is not None:
        achieved = program.flops / seconds[index][-1]
        fractions[index].append(achieved / ((before + after) / 2))
      before = after
  return [
    Timing(
      program.name,
      program.compile_s,
      seconds[index],
      program.work,
      program.unit,
      program.flops,
      fractions[index] or None,
    )
    for index, program in enumerate(programs)
  ]


def _seconds(program: Program, calls: int) -> float:
  """Returns the mean seconds of a call."""
  start = time.perf_counter()
  for _ in range(calls):
    jax.block_until_ready(program.compiled(*program.args))
  return (time.perf_counter() - start) / calls


def measure(
  name: str,
  fn: Callable[..., Any],
  *args: Any,
  rate: MatmulRate,
  repeats: int,
  work: float,
  unit: str,
  flops: float | None = None,
) -> Timing:
  """Times `fn` alone."""
  program = compile_program(name, fn, *args, work=work, unit=unit, flops=flops)
  return alternate([program], rate=rate, repeats=repeats)[0]
