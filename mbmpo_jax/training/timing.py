"""Jitted functions whose compilation and calls are timed."""

import time
from collections.abc import Callable
from typing import Any

import jax

from mbmpo_jax.training import footprint


class Timed:
  """A jitted function that blocks until its result is there.

  Attributes:
    name: what the function is called.
    seconds: of the last call, without compilation.
    compile_seconds: of tracing and compiling; 0 before `compile`.
    compiled: whether `compile` has been called.
    extra_bytes: memory of a device that a call needs beside its arguments, once
      compiled; 0 where XLA does not say.
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
      function: pure, of arrays.
      name: what it is called.
      donate_argnums: arguments whose buffers the result may take over.
      compiler_options: as `backend.compiler_options` gives them.
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
    """Bytes needed beside the arguments, as estimated from the trace.

    Args:
      *args: as of a call, or `jax.ShapeDtypeStruct`s in place of arrays.
    """
    start = time.perf_counter()
    jaxpr = self._jitted.trace(*args).jaxpr
    donated = [
      index in self._donated
      for index, arg in enumerate(args)
      for _ in jax.tree.leaves(arg)
    ]
    total = footprint.of_program(jaxpr, donated)
    # `compile` traces arguments like these no second time.
    self._trace_seconds = time.perf_counter() - start
    return max(total - footprint.of_tree(args), 0)

  def compile(self, *args: Any) -> None:
    """Traces and compiles for arguments like these, so that no call does."""
    start = time.perf_counter()
    compiled = self._jitted.lower(*args).compile()
    self.compile_seconds = time.perf_counter() - start + self._trace_seconds
    self.compiled = True
    needs = compiled.memory_analysis()
    if needs is not None:  # Not every platform says.
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
  """A function that is no program: it is called as it is, and timed."""

  def __init__(self, function: Callable[..., Any], *, name: str) -> None:
    """There is nothing to compile, or it compiles for itself."""
    super().__init__(function, name=name)
    self._jitted = function
    self.compiled = True

  def footprint(self, *args: Any) -> int:
    """Nothing is known of it."""
    del args
    return 0
