"""The files of one run: its folder, metrics, checkpoints and learning curve."""

import contextlib
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence

import jax

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax.algorithms import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration
from mbmpo_jax.training import machine
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import wandb_writer
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import lock
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_world
from mbmpo_jax.training.viewing import render
from mbmpo_jax.training.viewing import video


class Run:
  """A configuration and the files of its run.

  With several processes, only the first one writes files; all of them write
  checkpoints.

  Attributes:
    config: the experiment.
    folder: the paths of the files.
    checkpoints: the checkpoints from which the run can be resumed.
  """

  def __init__(
    self, config: config_lib.Experiment, root: pathlib.Path, *, keep: int
  ) -> None:
    """Writes nothing.

    Args:
      config: the experiment.
      root: the run's folder.
      keep: number of newest checkpoints to keep.

    Raises:
      ConfigError: if `root` cannot be a folder, or contains a run with another
        configuration.
    """
    self.config = config
    self.folder = folder_lib.RunFolder(root)
    self._check_resumable()
    self.checkpoints = checkpoint.Checkpointer(
      self.folder.checkpoints, keep=keep
    )
    self._writer: metrics.Writer | None = None
    self._is_recorded = False
    if config.run.wandb_project is not None:
      wandb_writer.load(config.run.wandb_project)
    self._held = contextlib.ExitStack()

  def create(self) -> None:
    """Locks the folder until `close`, and writes the configuration.

    Raises:
      ConfigError: if the file system does not allow it, or another process is
        running in the folder.
    """
    refusal: errors.UserError | None = None
    if devices.is_first_process():
      try:
        self._held.enter_context(lock.hold(self.folder.root))
        self._check_resumable()  # From here on no other process writes.
        self.folder.create(self.config)
        saved_world.remember(self.folder.root, self.config)
      except errors.UserError as error:
        refusal = error
    if devices.any_process(refusal is not None):
      raise refusal or config_lib.ConfigError(
        f'--workdir={self.folder.root}: refused by the first process'
      )

  def open(self, first_step: int) -> None:
    """Continues the metrics at `first_step`; later rows are dropped."""
    writers: list[metrics.Writer] = []
    if devices.is_first_process():
      folder = self.folder
      with self._writing():
        # First, because it may refuse the run, and reads rows that are dropped
        # below.
        if self.config.run.wandb_project is not None:
          writers.append(
            wandb_writer.WandbWriter(folder, self.config, first_step=first_step)
          )
        writers += [
          metrics.JsonlWriter(folder.metrics, first_step=first_step),
          metrics.TensorBoardWriter(folder.tensorboard, first_step=first_step),
        ]
    self._writer = metrics.Tee(writers)

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Appends the metrics of iteration `step`; requires `open`.

    The first call also records the machine.
    """
    assert self._writer is not None
    with self._writing():
      if not self._is_recorded and devices.is_first_process():
        machine.record(self.folder.machines, step)
        self._is_recorded = True
      self._writer.write(step, row)

  def rows(self) -> list[dict[str, float]]:
    """Returns the metrics of all iterations so far; some may be lost."""
    try:
      return metrics.read_jsonl(self.folder.metrics)
    except OSError:  # The file is missing.
      return []

  def draw(self, declared: Mapping[str, base.Metric]) -> None:
    """Draws the learning curve of the metrics that `declared` selects."""
    if not devices.is_first_process():
      return
    config = self.config
    with self._writing():
      plot.learning_curve(
        self.rows(),
        self.folder.curve,
        declared,
        title=f'{config.algorithm} on {config.env.name}, seed {config.seed}',
      )

  def render(self, own_policy: policies.Policy | None = None) -> None:
    """Writes the page that plays the best policy; warns if it cannot.

    It also writes a video if OpenGL and the extra `video` are installed.

    Args:
      own_policy: as for `saved_policy.load_policy`.
    """
    if not devices.is_first_process():
      return
    path = self.folder.page
    try:
      policy = saved_policy.load_policy(self.folder.root, policy=own_policy)
      recording = render.record_policy(policy)
      render.write_page(recording, path, title=render.title(policy, 'best'))
      path = self.folder.video
      with contextlib.suppress(video.VideoError):
        video.write_video(recording, path)
    except Exception as error:  # A run must not fail because of this.
      warnings.warn(
        f'{path}: not written: {type(error).__name__}: {error}', stacklevel=2
      )

  def close(self) -> None:
    """Writes pending data and unlocks the folder.

    It may be called without `create` or `open`.
    """
    with self._held, self._writing():
      try:
        self.checkpoints.close()
      finally:
        if self._writer is not None:
          self._writer.close()

  def _check_resumable(self) -> None:
    if self.folder.has_checkpoints():
      self.folder.check_resumable(self.config)

  def _writing(self) -> contextlib.AbstractContextManager[None]:
    return atomic.writing(self.folder.root)


def restore(
  runs: Sequence[Run],
  start: Callable[[config_lib.Experiment], iteration.Saved],
  sharding: jax.sharding.Sharding,
) -> list[iteration.Saved]:
  """Returns the state from which each run continues.

  All runs continue from the same iteration: the newest for which every run has
  a readable checkpoint. If an interruption left later checkpoints of some runs,
  these are moved aside.

  Args:
    runs: runs whose states have the same structure.
    start: returns the initial state of a run without checkpoints.
    sharding: the sharding of restored states.

  Raises:
    CheckpointError: if there is no such iteration.
  """
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    jax.eval_shape(lambda: start(runs[0].config)),
  )
  until: int | None = None
  while True:
    found = [
      run.checkpoints.restore_latest(abstract, until=until) for run in runs
    ]
    steps = [0 if one is None else one[0] for one in found]
    if len(set(steps)) == 1:
      break
    until = min(steps)
    if until == 0:
      _check_first_save(runs)
  for run in runs:
    for aside in run.checkpoints.set_aside_after(steps[0]):
      warnings.warn(
        f'all runs continue from iteration {steps[0]}; a later checkpoint is'
        f' kept as {aside}',
        stacklevel=2,
      )
  # Block, because an out-of-memory error appears only here; reading a number of
  # the state without it would wait forever.
  return [
    jax.block_until_ready(start(run.config)) if one is None else one[1]
    for run, one in zip(runs, found, strict=True)
  ]


def _check_first_save(runs: Sequence[Run]) -> None:
  """Checks that runs without checkpoints were interrupted in the first save.

  Otherwise a checkpoint was lost, or a run was continued alone, and starting
  again would discard the checkpoints of the other runs.
  """
  lost = [run for run in runs if not run.checkpoints.steps]
  if not lost:
    newest = ', '.join(
      f'{run.checkpoints.steps[-1]} in {run.folder.root}' for run in runs
    )
    raise checkpoint.CheckpointError(
      'the runs of the sweep have no checkpoint of the same iteration; the'
      f' newest are {newest}; continue these runs separately, or use another'
      ' --workdir'
    )
  if any(len(run.checkpoints.steps) > 1 for run in runs):
    raise checkpoint.CheckpointError(
      f'{lost[0].folder.checkpoints} has no checkpoint, but other runs of the'
      ' sweep have several; restore it or use another --workdir'
    )
