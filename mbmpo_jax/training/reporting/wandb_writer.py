"""Weights & Biases as one more destination of metrics, where it is installed.

Who logs in, to which server and as which entity is W&B's own business: its
environment variables (`WANDB_MODE=offline`, `WANDB_ENTITY`, ...) hold.
"""

import dataclasses
import math
import pathlib
import re
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax.training.reporting import metrics as metrics_lib
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import folder as folder_lib

_PROJECT = re.compile(r'[^/\\#?%:\s][^/\\#?%:]{0,127}')


class WandbError(errors.UserError, RuntimeError):
  """W&B does not take the run."""


def load(project: str) -> Any:
  """The package `wandb`, imported only where it is asked for.

  Args:
    project: a W&B project's name.

  Raises:
    ConfigError: if the name is not allowed, or the package is not installed.
  """
  if not _PROJECT.fullmatch(project):
    raise config_lib.ConfigError(
      f'run.wandb_project={project!r}: must be a W&B project, 1 to 128'
      ' characters without any of /\\#?%:'
    )
  try:
    import wandb
  except ImportError as error:
    raise config_lib.ConfigError(
      f'run.wandb_project={project!r}: needs the package wandb ({error});'
      " install the extra 'wandb', or leave --config.run.wandb_project out"
    ) from error
  return wandb


class WandbWriter:
  """A W&B run per workdir, whose steps are iterations.

  W&B takes no step twice and none before its latest. A continued run is the
  same W&B run (its id is in the workdir) and goes on where that one ends:

  - rows that W&B lacks, as it was not asked for then or had not uploaded them
    when the process was killed, are sent from `metrics.jsonl`;
  - rows of iterations that are run again are skipped: W&B has them already,
    equal in all but times.

  Offline there is nobody to ask what is there, so that each process leaves all
  rows from the first on; `wandb sync` of the newest is enough.

  A failure while the run goes on costs a warning and the rest of what W&B
  would have got, never the run.
  """

  def __init__(
    self,
    folder: folder_lib.RunFolder,
    config: config_lib.Experiment,
    *,
    first_step: int = 0,
  ) -> None:
    """Begins or continues the W&B run.

    Args:
      folder: of the run; W&B keeps its own files in it too.
      config: the experiment, shown at W&B; `run.wandb_project` is the project.
      first_step: the iteration that the run goes on from.

    Raises:
      ConfigError: as `load`.
      WandbError: if W&B refuses the run, or cannot be reached.
    """
    project = config.run.wandb_project
    assert project is not None
    wandb = load(project)
    try:
      self._run = wandb.init(
        project=project,
        id=_run_id(folder.wandb_id),
        name=folder.root.resolve().name,
        dir=str(folder.root),
        config={
          'algorithm': config.algorithm,
          **dataclasses.asdict(config),
        },
        resume='allow',
        allow_val_change=True,
        # Several at once in a sweep; one of the caller's own is left alone.
        reinit='create_new',
        # The terminal is the progress display's.
        settings={'console': 'off'},
      )
    except Exception as error:  # Whatever a service may raise.
      raise WandbError(
        f'run.wandb_project={project!r}: W&B does not take the run ({error});'
        ' WANDB_MODE=offline keeps it on the disk'
      ) from error
    self._next = self._run.step
    self._failed = False
    if folder.metrics.exists():
      for row in metrics_lib.read_jsonl(folder.metrics):
        if row['iteration'] < first_step:
          self.write(int(row['iteration']), row)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a point to the curve of every metric that is finite."""
    if step < self._next or self._failed:
      return
    finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
    row = {'iteration': step, **finite}
    # Without `commit` the row would wait for the next one.
    self._guarded(self._run.log, row, step=step, commit=True)

  def close(self) -> None:
    """Uploads what is pending."""
    self._guarded(self._run.finish)

  def _guarded(self, call: Any, *args: Any, **kwargs: Any) -> None:
    try:
      call(*args, **kwargs)
    except Exception as error:
      self._failed = True
      warnings.warn(
        f'W&B gets no more of this run: {error}; metrics.jsonl has it all',
        stacklevel=3,
      )


def _run_id(path: pathlib.Path) -> str:
  """The W&B run's id: what the file holds, or a new one, written there."""
  if not path.exists():
    atomic.write_text(path, uuid.uuid4().hex[:12] + '\n')
  return path.read_text(encoding='utf-8').strip()
