"""Writes a profiler trace of one iteration."""

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

  An error of the profiler is only a warning. The profiler is a context; at its
  end it reports if no iteration was traced.
  """

  def __init__(
    self, directory: pathlib.Path | None, progress: progress_lib.Progress
  ) -> None:
    """Writes nothing.

    Args:
      directory: the folder of the trace; `None` traces nothing.
      progress: receives messages on where the trace is and how to view it.
    """
    self._directory = directory
    self._progress = progress
    self._wanted = directory is not None

  def __enter__(self) -> Self:
    """Opens nothing yet."""
    return self

  def __exit__(self, *exception: object) -> None:
    """Reports if there is no trace."""
    if self._wanted and exception[0] is None:
      self._progress.message(
        '--profile: nothing was traced, as no iteration without compilation was'
        ' left; use a larger --config.run.num_iterations'
      )

  @contextlib.contextmanager
  def iteration(self, index: int, *, compiles: bool) -> Iterator[None]:
    """A context around iteration `index`; `compiles` is whether it compiles."""
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
    # Trace phases and XLA operations, but not every Python call.
    options.python_tracer_level = 0
    assert self._directory is not None
    jax.profiler.start_trace(self._directory, profiler_options=options)


def _attempt(call: Callable[[], None]) -> bool:
  """Calls the profiler; returns whether it succeeded, and warns if not."""
  try:
    call()
  except Exception as error:  # A profiler may raise anything.
    warnings.warn(
      f'--profile: no trace ({error}); training continues', stacklevel=2
    )
    return False
  return True
