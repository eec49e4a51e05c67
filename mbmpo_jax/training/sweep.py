"""Trains several runs at once: each phase is one program for all runs.

The runs are sharded over the devices. A device computes its runs at once with
vmap, or on a CPU one after the other (`stacked.py`).
"""

import contextlib
import math
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import parallel
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import devices
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training import loop
from mbmpo_jax.training import memory
from mbmpo_jax.training import run as run_lib
from mbmpo_jax.training import signals
from mbmpo_jax.training import solved
from mbmpo_jax.training import stacked
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.launch import waits
from mbmpo_jax.training.reporting import metrics as metrics_lib
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import lock
from mbmpo_jax.training.storage import saved_world


def sweep(
  grid: grid_lib.Grid,
  workdir: str | pathlib.Path,
  *,
  make_algorithm: loop.MakeAlgorithm | None = None,
  mesh: jax.sharding.Mesh | None = None,
  progress: progress_lib.Progress | None = None,
  stop: signals.StopRequest | None = None,
  debug_nans: bool = False,
) -> dict[str, dict[str, float]]:
  """Trains all runs of a grid at once, or resumes an interrupted sweep.

  Each run has a folder named after its values and seed. The folder has the same
  files as one of `loop.train`, which can also resume the run; the results equal
  those of a single run up to rounding. Times and throughput are of all runs
  together. A sweep that is resumed by the same call is bitwise equal to an
  uninterrupted one; for this it keeps at least two checkpoints.

  Args:
    grid: the runs.
    workdir: the sweep's folder; created if it does not exist.
    make_algorithm: `(env, config) -> algorithm`, as for `loop.train`.
    mesh: devices over which the runs are sharded, from `devices.make_run_mesh`;
      by default one device has all of them.
    progress: displays the progress, with metrics averaged or summed over runs.
    stop: as for `loop.train`.
    debug_nans: as for `loop.train`; a non-finite number in any run stops all.

  Returns:
    For each run, the metrics of the last iteration, NaN for missing values.

  Raises:
    ConfigError: if the folder contains another sweep or a single run, if
      another process is running in it, or if the configuration or the mesh is
      not allowed. Nothing has been written in these cases.
    CheckpointError: if there are checkpoints but none can be read, or if one
      cannot be written.
    WriteError: if another file cannot be written, for example because the disk
      is full.
    NonFiniteError: if all updates of every run were rejected in
      `run.max_rejected_iterations` consecutive iterations, or with
      `debug_nans`.
  """
  cache.enable()
  config = grid.config
  devices.check_debug_nans(mesh, debug_nans)
  devices.check_run_mesh(mesh, len(grid.runs()))
  folder = folder_lib.SweepFolder(pathlib.Path(workdir))
  folder.check_resumable(grid)
  keep = max(2, config.run.keep_checkpoints)
  runs = {
    name: run_lib.Run(own, folder.root / name, keep=keep)
    for name, own in grid.runs().items()
  }
  if config.env.physics != 'mjx':
    raise config_lib.ConfigError(
      f"env.physics={config.env.physics!r}: must be 'mjx' in a sweep"
    )
  progress = progress or progress_lib.make()
  made: list[base.Algorithm] = []

  def build(config: config_lib.Experiment) -> iteration_lib.Iteration:
    env = saved_world.registered(
      next(iter(runs.values())).folder.root,
      config,
      config.collect.episode_length,
    )
    made.append(loop.make(make_algorithm, env, config))
    return iteration_lib.Iteration(
      env,
      config,
      made[-1],
      progress,
      num_runs=len(runs),
      mesh=mesh,
      debug_nans=debug_nans,
    )

  with waits.announced('tracing the programs'):
    iteration = memory.check(config, build)
  algorithm = made[0]
  on_devices = ''
  if jax.device_count() > 1:
    on_devices = f', on {parallel.size(mesh)} of {jax.device_count()} devices'
  progress.message(
    f'{len(runs)} runs at once: {len(grid.settings)} settings, {_seeds(grid)}'
    + on_devices
  )
  sharding = devices.replicated(None)

  def start(config: config_lib.Experiment) -> iteration_lib.Saved:
    key = jax.random.PRNGKey(config.seed)
    return iteration_lib.start(algorithm, key, base.hyper(config), sharding)

  def draw() -> None:
    settings = {
      setting.label: [
        runs[grid_lib.run_name(setting, own)].rows() for own in setting.configs
      ]
      for setting in grid.settings
    }
    with atomic.writing(folder.root):
      plot.sweep_curves(
        settings,
        folder.curves,
        title=f'{config.algorithm} on {config.env.name}, {_seeds(grid)}',
      )

  with contextlib.ExitStack() as stack:
    stack.enter_context(memory.explained())
    stack.enter_context(lock.hold(folder.root))
    folder.check_resumable(grid)  # From here on no other process writes.
    folder.create(grid)
    for run in runs.values():
      stack.enter_context(contextlib.closing(run))
      run.create()
    with waits.announced('preparing the states'):
      restored = run_lib.restore(list(runs.values()), start, sharding)
    first = int(restored[0].state.counters.iteration)
    saved = stacked.stack(restored, mesh)
    del restored
    done = loop.iterate(
      iteration,
      saved,
      list(runs.values()),
      first=first,
      draw=draw,
      progress=progress,
      stop=stop,
    )
    for run in runs.values():
      run.draw(algorithm.metrics)

  rows = {name: run.rows() for name, run in runs.items()}
  _report(grid, rows, folder, progress, done)
  return {name: own[-1] if own else {} for name, own in rows.items()}


def table(
  grid: grid_lib.Grid, rows: dict[str, list[dict[str, float]]]
) -> list[str]:
  """Returns lines of text: last mean return and its std over seeds by setting.

  The standard deviation is that of a sample, with divisor `num_seeds - 1`.

  Args:
    grid: the runs.
    rows: for each run, its metrics by iteration.
  """
  entries = [('setting', 'return')]
  for setting in grid.settings:
    returns = np.array(
      [
        _last_evaluation(rows[grid_lib.run_name(setting, config)])
        for config in setting.configs
      ]
    )
    text = f'{returns.mean():.4g}'
    if len(returns) > 1:
      text += f' ± {returns.std(ddof=1):.2g}'
    entries.append((setting.label or 'as configured', text))
  width = max(len(label) for label, _ in entries)
  return [f'  {label:<{width}}  {text}' for label, text in entries]


def _last_evaluation(rows: Sequence[dict[str, float]]) -> float:
  """Returns the result of the last evaluation; NaN if it was not finite."""
  return metrics_lib.evaluated(rows)[-1]['eval/return_mean']


def _seeds(grid: grid_lib.Grid) -> str:
  if grid.num_seeds == 1:
    return f'seed {grid.config.seed}'
  last = grid.config.seed + grid.num_seeds - 1
  return f'seeds {grid.config.seed} to {last}'


def _report(
  grid: grid_lib.Grid,
  rows: dict[str, list[dict[str, float]]],
  folder: folder_lib.SweepFolder,
  progress: progress_lib.Progress,
  done: int,
) -> None:
  """Reports the progress of the sweep, its results and its files."""
  section = grid.config.run
  total = section.num_iterations
  if done < total and all(
    solved.is_solved(own, section.solved_at) for own in rows.values()
  ):
    progress.message(solved.MESSAGE)
    total = done
  steps = sum(
    own[-1].get('env_steps', math.nan) for own in rows.values() if own
  )
  # Time metrics are of all runs together and the same in each run.
  took = sum(map(progress_lib.seconds, next(iter(rows.values()))))
  progress.message(
    f'{done} of {total} iterations are done: {steps:,.0f} real transitions in'
    f' {pace.duration(took)}'
  )
  if all(map(metrics_lib.evaluated, rows.values())):
    for line in table(grid, rows):
      progress.message(line)
  if done < total:
    progress.message('the same command again continues')
  progress.message(f'  {folder.curves}')
  progress.message(
    f'  {folder.root}/<run>: metrics, checkpoints, curve of each'
  )
