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
from mbmpo_jax.training import checkpoint
from mbmpo_jax.training import devices
from mbmpo_jax.training import folder as folder_lib
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training import metrics as metrics_lib
from mbmpo_jax.training import plot
from mbmpo_jax.training import progress as progress_lib
from mbmpo_jax.training import signals

_DRAW_EVERY_S = 30.0


def train(
  config: config_lib.Config,
  workdir: str | pathlib.Path,
  *,
  make_algorithm: Callable[..., Any] = mbmpo.make,
  mesh: jax.sharding.Mesh | None = None,
  progress: progress_lib.Progress | None = None,
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

  Returns:
    The metrics of the last iteration, NaN where there is no value.

  Raises:
    ConfigError: if the configuration is not allowed, or is not the one that
      the folder's run was started with; nothing has been written then.
    CheckpointError: if there are checkpoints and none can be read.
  """
  config = copy.deepcopy(config)
  validation.validate(config)
  folder = folder_lib.RunFolder(pathlib.Path(workdir))
  if folder.has_checkpoints():
    folder.check_resumable(config)
  env = envs.make(config.env.name, config.env.variant)
  if mesh is not None:
    make_algorithm = functools.partial(make_algorithm, mesh=mesh)
  algorithm = make_algorithm(env, config)
  checkpoints = checkpoint.Checkpointer(
    folder.checkpoints, keep=config.run.keep_checkpoints
  )
  writes = devices.is_first_process()
  if progress is None:
    progress = progress_lib.make() if writes else progress_lib.Silent()

  with contextlib.ExitStack() as stack:
    stack.callback(checkpoints.close)
    if writes:
      folder.create(config)
    saved = _restore(
      checkpoints, algorithm.init, config.seed, devices.replicated(mesh)
    )
    first, total = int(saved.state.iteration), config.run.num_iterations
    writer = metrics_lib.Tee(_writers(folder, first) if writes else [])
    stack.callback(writer.close)
    stop = stack.enter_context(signals.StopRequest())
    stack.callback(progress.close)
    progress.start(total=total, done=first)
    iterate = iteration_lib.Iteration(
      env, config, algorithm, progress, mesh=mesh
    )
    drawn = time.monotonic()
    for index in range(first, total):
      saved, metrics = iterate(saved, index)
      writer.write(index, metrics)
      stopping = devices.any_process(stop.requested is not None)
      is_last = index + 1 == total or stopping
      if is_last or (index + 1) % config.run.checkpoint_every == 0:
        checkpoints.save(index + 1, saved)
      progress.iteration(index, metrics)
      if writes and (is_last or time.monotonic() - drawn > _DRAW_EVERY_S):
        _draw(folder, config)
        drawn = time.monotonic()
      if stopping:
        break

  rows = metrics_lib.read_jsonl(folder.metrics)
  _report(rows, folder, total, progress)
  return rows[-1] if rows else {}


def _writers(
  folder: folder_lib.RunFolder, first: int
) -> list[metrics_lib.Writer]:
  return [
    metrics_lib.JsonlWriter(folder.metrics, first_step=first),
    metrics_lib.TensorBoardWriter(folder.tensorboard, first_step=first),
  ]


def _restore(
  checkpoints: checkpoint.Checkpointer,
  init: Callable[..., Any],
  seed: int,
  sharding: jax.sharding.Sharding,
) -> iteration_lib.Saved:
  """The newest checkpoint, or what the first iteration starts from."""
  start = functools.partial(
    iteration_lib.start, init, jax.random.PRNGKey(seed), sharding
  )
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    jax.eval_shape(start),
  )
  newest = checkpoints.restore_latest(abstract)
  return start() if newest is None else newest[1]


def _draw(folder: folder_lib.RunFolder, config: config_lib.Config) -> None:
  plot.learning_curve(
    metrics_lib.read_jsonl(folder.metrics),
    folder.curve,
    title=f'{config.env.name}, seed {config.seed}',
  )


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
