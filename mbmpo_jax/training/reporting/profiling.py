"""A trace of one iteration: what ran when, operation by operation."""

import contextlib
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Self

import jax

from mbmpo_jax.training.reporting import progress as progress_lib

_HOW_TO_VIEW = (
  '  its .trace.json.gz opens at https://ui.perfetto.dev; the rest with'
  ' `pip install xprof`, then `xprof --logdir={}`'
)


class Profiler:
  """Traces the first iteration that compiles nothing, and no other.

  What goes wrong with the trace costs a warning, never the run. A context, at
  whose end it says so if there was no such iteration.
  """

  def __init__(
    self, directory: pathlib.Path | None, progress: progress_lib.Progress
  ) -> None:
    """Writes nothing.

    Args:
      directory: where the trace goes; `None` traces nothing.
      progress: is told where the trace lies and how to look at it.
    """
    self._directory = directory
    self._progress = progress
    self._wanted = directory is not None

  def __enter__(self) -> Self:
    """Nothing is open yet."""
    return self

  def __exit__(self, *exception: object) -> None:
    """Says if there is no trace."""
    if self._wanted and exception[0] is None:
      self._progress.message(
        '--profile: nothing was traced, as no iteration that compiles nothing'
        ' was left; a larger --config.run.num_iterations gives one'
      )

  @contextlib.contextmanager
  def iteration(self, index: int, *, compiles: bool) -> Iterator[None]:
    """Around iteration `index`, of which is known whether it compiles."""
    if compiles or not self._wanted:
      yield
      return
    self._wanted = False
    tracing = _attempt(self._start)
    try:
      with jax.profiler.StepTraceAnnotation('iteration', step_num=index):
        yield
    finally:
      self._progress.phase('writing the trace')
      if tracing and _attempt(jax.profiler.stop_trace):
        self._progress.message(
          f'iteration {index + 1} was traced: {self._directory}'
        )
        self._progress.message(_HOW_TO_VIEW.format(self._directory))

  def _start(self) -> None:
    options = jax.profiler.ProfileOptions()
    # The phases' names and XLA's operations, without every call in Python.
    options.python_tracer_level = 0
    assert self._directory is not None
    jax.profiler.start_trace(self._directory, profiler_options=options)


def _attempt(call: Callable[[], None]) -> bool:
  """Whether the profiler could do it; says why not."""
  try:
    call()
  except Exception as error:  # Whatever a platform's profiler may raise.
    warnings.warn(
      f'--profile: no trace ({error}); training goes on', stacklevel=2
    )
    return False
  return True
