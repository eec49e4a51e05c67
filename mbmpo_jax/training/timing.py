"""Jitted functions that measure their compilation and their calls."""

import time
from collections.abc import Callable
from typing import Any

import jax

from mbmpo_jax.training import footprint


class Timed:
  """A jitted function that waits for its result.

  Attributes:
    name: the function's name.
    seconds: duration of the last call, without compilation.
    compile_seconds: duration of tracing and compiling; 0 before `compile`.
    compiled: whether `compile` has been called.
    extra_bytes: device memory that a call needs beside its arguments, once
      compiled; 0 if XLA does not report it.
  """

  def __init__(
    self,
    function: Callable[..., Any],
    *,
    name: str = 'a program',
    donate_argnums: tuple[int, ...] = (),
    compiler_options: dict[str, str] | None = None,
  ) -> None:
    """Compiles nothing yet.

    Args:
      function: a pure function of arrays.
      name: the function's name.
      donate_argnums: arguments whose buffers the result may reuse.
      compiler_options: the result of `backend.compiler_options`.
    """
    self._jitted: Any = jax.jit(
      function,
      donate_argnums=donate_argnums,
      compiler_options=compiler_options,
    )
    self.name = name
    self.compiled = False
    self.seconds = 0.0
    self.compile_seconds = 0.0
    self.extra_bytes = 0
    self._donated = donate_argnums
    self._trace_seconds = 0.0

  def footprint(self, *args: Any) -> int:
    """Estimates from the trace the bytes needed beside the arguments.

    Args:
      *args: as for a call, or `jax.ShapeDtypeStruct`s in place of arrays.
    """
    start = time.perf_counter()
    jaxpr = self._jitted.trace(*args).jaxpr
    donated = [
      index in self._donated
      for index, arg in enumerate(args)
      for _ in jax.tree.leaves(arg)
    ]
    total = footprint.of_program(jaxpr, donated)
    # `compile` does not trace such arguments again.
    self._trace_seconds = time.perf_counter() - start
    return max(total - footprint.of_tree(args), 0)

  def compile(self, *args: Any) -> None:
    """Traces and compiles for such arguments, so that no call has to."""
    start = time.perf_counter()
    compiled = self._jitted.lower(*args).compile()
    self.compile_seconds = time.perf_counter() - start + self._trace_seconds
    self.compiled = True
    needs = compiled.memory_analysis()
    if needs is not None:  # Not every platform reports it.
      self.extra_bytes = max(
        needs.temp_size_in_bytes
        + needs.output_size_in_bytes
        - needs.alias_size_in_bytes,
        0,
      )

  def __call__(self, *args: Any) -> Any:
    """Calls the function and waits for its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(self._jitted(*args))
    self.seconds = time.perf_counter() - start
    return result


class OnHost(Timed):
  """A function that is not a JAX program: it is only called and timed."""

  def __init__(self, function: Callable[..., Any], *, name: str) -> None:
    """Marks the function as compiled."""
    super().__init__(function, name=name)
    self._jitted = function
    self.compiled = True

  def footprint(self, *args: Any) -> int:
    """Returns 0, because the memory is unknown."""
    del args
    return 0
