"""A whole run: iterations, metrics, checkpoints, curve, resume."""

import contextlib
import copy
import functools
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms import mbmpo
from mbmpo_jax.training import devices
from mbmpo_jax.training import folder as folder_lib
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training import metrics as metrics_lib
from mbmpo_jax.training import progress as progress_lib
from mbmpo_jax.training import run as run_lib
from mbmpo_jax.training import signals
from mbmpo_jax.training import soundness

_DRAW_EVERY_S = 30.0


def train(
  config: config_lib.Config,
  workdir: str | pathlib.Path,
  *,
  make_algorithm: Callable[..., Any] = mbmpo.make,
  mesh: jax.sharding.Mesh | None = None,
  progress: progress_lib.Progress | None = None,
  debug_nans: bool = False,
) -> dict[str, float]:
  """Runs an experiment, or the rest of one that was interrupted.

  A folder with checkpoints is continued from the newest, bit for bit as if it
  had never stopped. On SIGTERM or Ctrl-C the iteration is finished and saved.

  Args:
    config: the experiment; copied.
    workdir: the run's folder, created where missing.
    make_algorithm: `(env, config) -> algorithm`, a named tuple of pure
      functions with `init`, `collect`, `fit` and `improve`; with a mesh,
      `mesh` is a third argument, by name.
    mesh: devices that share the work, from `devices.make_mesh`; by default one
      does it. They may be those of several processes, each of which calls
      this; the first of them writes the folder, which all must see.
    progress: shows what goes on; by default a live display on a terminal and
      plain lines elsewhere, in the first process.
    debug_nans: whether a number that is not finite, otherwise left out, is an
      error that names the line it comes from; on one device only.

  Returns:
    The metrics of the last iteration, NaN where there is no value.

  Raises:
    ConfigError: if the configuration is not allowed, or is not the one that
      the folder's run was started with; nothing has been written then.
    CheckpointError: if there are checkpoints and none can be read.
    NonFiniteError: if `run.max_rejected_iterations` were rejected on end, or
      with `debug_nans`.
  """
  if debug_nans and mesh is not None:
    raise config_lib.ConfigError(
      f'--debug_nans on {mesh.size} devices: must be on one (--num_devices=1)'
    )
  config = copy.deepcopy(config)
  validation.validate(config)
  run = run_lib.Run(
    config, pathlib.Path(workdir), keep=config.run.keep_checkpoints
  )
  env = _make_env(config, mesh)
  if mesh is not None:
    make_algorithm = functools.partial(make_algorithm, mesh=mesh)
  algorithm = make_algorithm(env, config)
  if progress is None:
    progress = (
      progress_lib.make()
      if devices.is_first_process()
      else progress_lib.Silent()
    )
  sharding = devices.replicated(mesh)

  def start(config: config_lib.Config) -> iteration_lib.Saved:
    key = jax.random.PRNGKey(config.seed)
    return iteration_lib.start(algorithm.init, key, sharding)

  with contextlib.closing(run):
    run.create()
    (saved,) = run_lib.restore([run], start, sharding)
    iterate(
      iteration_lib.Iteration(
        env, config, algorithm, progress, mesh=mesh, debug_nans=debug_nans
      ),
      saved,
      [run],
      first=int(saved.state.iteration),
      draw=run.draw,
      progress=progress,
    )

  rows = run.rows()
  _report(rows, run.folder, config.run.num_iterations, progress)
  return rows[-1] if rows else {}


def _make_env(
  config: config_lib.Config, mesh: jax.sharding.Mesh | None
) -> envs.Environment:
  env = envs.make(config.env.name, config.env.variant)
  if config.env.physics == 'mjx':
    return env
  if mesh is not None:
    raise config_lib.ConfigError(
      f"env.physics={config.env.physics!r}: must be 'mjx' on more than one"
      ' device'
    )
  most = max(config.collect.num_trajectories, config.run.eval_episodes)
  return envs.on_warp(env, num_envs=most)


def iterate(
  iteration: iteration_lib.Iteration,
  saved: iteration_lib.Saved,
  runs: Sequence[run_lib.Run],
  *,
  first: int,
  draw: Callable[[], None],
  progress: progress_lib.Progress,
) -> None:
  """Runs the iterations that are left, and keeps what they give.

  On SIGTERM or Ctrl-C the iteration is finished and saved.

  Args:
    iteration: of one run, or of several that are stacked.
    saved: what it starts from; given away.
    runs: in the order in which they are stacked.
    first: iterations that are done.
    draw: draws what is to be seen; called now and then, and at the end.
    progress: is told how far the runs are, and their mean metrics.
  """
  config = runs[0].config.run
  total = config.num_iterations
  with contextlib.ExitStack() as stack:
    for run in runs:
      run.open(first)
    stop = stack.enter_context(signals.StopRequest())
    stack.callback(progress.close)
    progress.start(total=total, done=first)
    watch = soundness.Watch(runs, first)
    drawn = time.monotonic()
    for index in range(first, total):
      saved, rows = iteration(saved, index)
      for run, row in zip(runs, rows, strict=True):
        run.write(index, row)
      watch.check(index, rows)
      stopping = devices.any_process(stop.requested is not None)
      is_last = index + 1 == total or stopping
      if is_last or (index + 1) % config.checkpoint_every == 0:
        for run, own in zip(runs, iteration.split(saved), strict=True):
          run.checkpoints.save(index + 1, own)
      progress.iteration(index, metrics_lib.mean(rows))
      if is_last or time.monotonic() - drawn > _DRAW_EVERY_S:
        draw()
        drawn = time.monotonic()
      if stopping:
        break


def _report(
  rows: Sequence[Mapping[str, float]],
  folder: folder_lib.RunFolder,
  total: int,
  progress: progress_lib.Progress,
) -> None:
  """Says how far the run is, what came out, and where to look."""
  text = f'{len(rows)} of {total} iterations are done'
  means = [row['eval/return_mean'] for row in rows]
  means = [mean for mean in means if math.isfinite(mean)]
  if means:
    best = rows[-1]['eval/best_return']
    text += f': evaluation return {means[-1]:.4g}, best {best:.4g}'
  progress.message(text)
  if len(rows) < total:
    progress.message('the same command again continues')
  for path in (folder.curve, folder.metrics, folder.tensorboard):
    progress.message(f'  {path}')
  progress.message(f'  {folder.checkpoints} (newest, and the best policy)')
