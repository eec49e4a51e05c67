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
  progress: progress_lib.Progress | None = None,
) -> dict[str, float]:
  """Runs an experiment, or the rest of one that was interrupted.

  A folder with checkpoints is continued from the newest, bit for bit as if it
  had never stopped. On SIGTERM or Ctrl-C the iteration is finished and saved.

  Args:
    config: the experiment; copied.
    workdir: the run's folder, created where missing.
    make_algorithm: `(env, config) -> algorithm`, a named tuple of pure
      functions with `init`, `collect`, `fit` and `improve`.
    progress: shows what goes on; by default a live display on a terminal and
      plain lines elsewhere.

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
  algorithm = make_algorithm(env, config)
  checkpoints = checkpoint.Checkpointer(
    folder.checkpoints, keep=config.run.keep_checkpoints
  )
  progress = progress or progress_lib.make()

  with contextlib.ExitStack() as stack:
    stack.callback(checkpoints.close)
    folder.create(config)
    saved = _restore(checkpoints, algorithm.init, config.seed)
    first, total = int(saved.state.iteration), config.run.num_iterations
    writer = metrics_lib.Tee(
      [
        metrics_lib.JsonlWriter(folder.metrics, first_step=first),
        metrics_lib.TensorBoardWriter(folder.tensorboard, first_step=first),
      ]
    )
    stack.callback(writer.close)
    stop = stack.enter_context(signals.StopRequest())
    stack.callback(progress.close)
    progress.start(total=total, done=first)
    iterate = iteration_lib.Iteration(env, config, algorithm, progress)
    drawn = time.monotonic()
    for index in range(first, total):
      saved, metrics = iterate(saved, index)
      writer.write(index, metrics)
      is_last = index + 1 == total or stop.requested is not None
      if is_last or (index + 1) % config.run.checkpoint_every == 0:
        checkpoints.save(index + 1, saved)
      progress.iteration(index, metrics)
      if is_last or time.monotonic() - drawn > _DRAW_EVERY_S:
        _draw(folder, config)
        drawn = time.monotonic()
      if stop.requested:
        break

  rows = metrics_lib.read_jsonl(folder.metrics)
  _report(rows, folder, total, progress)
  return rows[-1] if rows else {}


def _restore(
  checkpoints: checkpoint.Checkpointer, init: Callable[..., Any], seed: int
) -> iteration_lib.Saved:
  """The newest checkpoint, or what the first iteration starts from."""
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
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
