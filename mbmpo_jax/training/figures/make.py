"""Trains the runs of a figure and resumes interrupted ones.

Finished runs are not repeated. A run that another process is training is
skipped, so the same command may run several times at once, on one machine or on
several that share the folder, and the processes divide the runs among them. At
the end the skipped runs are checked again, and those that were interrupted are
resumed.
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import errors
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import devices
from mbmpo_jax.training import loop
from mbmpo_jax.training import signals
from mbmpo_jax.training import sweep
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import progress as progress_lib


class ElsewhereError(errors.UserError):
  """All unfinished runs are being trained by other processes."""


def make(
  runs: Sequence[study.Run],
  root: pathlib.Path,
  *,
  stop: signals.StopRequest,
  left: Callable[[], float],
  make_progress: Callable[[], progress_lib.Progress] = progress_lib.make,
  make_algorithm: loop.MakeAlgorithm | None = None,
) -> None:
  """Trains the unfinished runs.

  Args:
    runs: the runs of the figure, in order.
    root: the figure's folder.
    stop: requests a stop; the current iteration is finished and saved. Its
      `obeyed` is set if runs are left.
    left: () -> the estimated seconds of all unfinished runs.
    make_progress: displays a run and the number of runs left.
    make_algorithm: as for `loop.train`.

  Raises:
    ElsewhereError: if all unfinished runs are being trained by other processes.
    UserError: as `loop.train` and `sweep.sweep` do.
  """
  remembered = _Remembered(make_algorithm)
  begun = time.monotonic()
  count = {run.name: index + 1 for index, run in enumerate(runs)}
  todo = _not_done(runs, root)
  while todo:
    elsewhere = []
    for run in todo:
      if study.is_done(run, study.rows_of(root, run)):
        continue
      if stop.requested is not None:
        stop.obeyed = True
        return
      progress = make_progress()
      took = pace.duration(time.monotonic() - begun)
      progress.message(
        f'run {count[run.name]} of {len(runs)}, {run.name}, after {took}; about'
        f' {pace.duration(left())} left for all'
      )
      try:
        _make_one(run, root, progress, stop, remembered)
      except config_lib.ConfigError as error:
        if not isinstance(error.__cause__, BlockingIOError):
          raise
        elsewhere.append(run)
        progress.message('  another process is making it')
    if stop.requested is not None:
      stop.obeyed = bool(_not_done(runs, root))
      return
    # Meanwhile, other processes may have finished or been interrupted.
    before, todo = todo, _not_done(elsewhere, root)
    if todo == before:
      raise ElsewhereError(
        f'{len(todo)} runs are being made by other processes, such as'
        f' {todo[0].name}; give the same command again when they are done'
      )


def _not_done(runs: Sequence[study.Run], root: pathlib.Path) -> list[study.Run]:
  return [r for r in runs if not study.is_done(r, study.rows_of(root, r))]


class _Remembered:
  """Makes an algorithm once for all seeds, so that it is traced once."""

  def __init__(self, make_algorithm: loop.MakeAlgorithm | None) -> None:
    self._make = make_algorithm
    self._key: Any = None
    self._made: base.Algorithm | None = None

  def __call__(
    self,
    env: envs.Environment,
    config: config_lib.Experiment,
    mesh: jax.sharding.Mesh | None = None,
  ) -> base.Algorithm:
    key = config_lib.replaced(config, {'seed': 0}), mesh
    if self._made is None or key != self._key:
      self._key = key
      self._made = loop.make(self._make, env, config, mesh)
    return self._made


def _make_one(
  run: study.Run,
  root: pathlib.Path,
  progress: progress_lib.Progress,
  stop: signals.StopRequest,
  make_algorithm: loop.MakeAlgorithm,
) -> None:
  """Trains the run, or the sweep that it belongs to."""
  if run.sweep is not None:
    mesh = devices.make_run_mesh(len(run.sweep.grid.runs()))
    sweep.sweep(
      run.sweep.grid,
      root / run.sweep.folder,
      make_algorithm=make_algorithm,
      mesh=mesh,
      progress=progress,
      stop=stop,
    )
    return
  shares = run.config.shares()
  count = devices.largest_divisor(
    shares.members * shares.tasks, jax.device_count()
  )
  loop.train(
    run.config,
    root / run.name,
    make_algorithm=make_algorithm,
    mesh=devices.make_mesh(run.config, count),
    progress=progress,
    stop=stop,
  )
