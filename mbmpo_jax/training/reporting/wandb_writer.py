"""Writes metrics to Weights & Biases, if it is installed.

Login, server and entity are configured by W&B's environment variables
(`WANDB_MODE=offline`, `WANDB_ENTITY`, ...).
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
  """W&B does not accept the run."""


def load(project: str) -> Any:
  """Imports the package `wandb`, which is needed only if a project is set.

  Args:
    project: the name of a W&B project.

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
  """Writes one W&B run per workdir, whose steps are iterations.

  W&B accepts no step twice, and none before its latest. A resumed run is the
  same W&B run (its id is saved in the workdir) and continues where that one
  ends:

  - rows that W&B lacks are sent from `metrics.jsonl`. They were written without
    W&B, or had not been uploaded when the process was killed;
  - rows of iterations that are run again are skipped, because W&B already has
    them with the same values except for times.

  Offline, the rows at W&B are not known, so each process writes all rows from
  the first on; running `wandb sync` for the newest is enough.

  An error during the run is only a warning, after which nothing more is sent to
  W&B; the run continues.
  """

  def __init__(
    self,
    folder: folder_lib.RunFolder,
    config: config_lib.Experiment,
    *,
    first_step: int = 0,
  ) -> None:
    """Starts or resumes the W&B run.

    Args:
      folder: the run's folder; W&B stores its files there too.
      config: the experiment, shown at W&B; `run.wandb_project` is the project.
      first_step: the iteration at which the run continues.

    Raises:
      ConfigError: as `load`.
      WandbError: if W&B rejects the run, or cannot be reached.
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
        # A sweep has several runs at once; the caller's own run is not touched.
        reinit='create_new',
        # The progress display uses the terminal.
        settings={'console': 'off'},
      )
    except Exception as error:  # The service may raise anything.
      raise WandbError(
        f'run.wandb_project={project!r}: W&B cannot start the run ({error});'
        ' WANDB_MODE=offline stores it on the disk'
      ) from error
    self._next = self._run.step
    self._failed = False
    if folder.metrics.exists():
      for row in metrics_lib.read_jsonl(folder.metrics):
        if row['iteration'] < first_step:
          self.write(int(row['iteration']), row)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a point to the curve of every finite metric."""
    if step < self._next or self._failed:
      return
    finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
    row = {'iteration': step, **finite}
    # Without `commit`, the row would be sent with the next one.
    self._guarded(self._run.log, row, step=step, commit=True)

  def close(self) -> None:
    """Uploads pending data."""
    self._guarded(self._run.finish)

  def _guarded(self, call: Any, *args: Any, **kwargs: Any) -> None:
    try:
      call(*args, **kwargs)
    except Exception as error:
      self._failed = True
      warnings.warn(
        f'nothing more is sent to W&B: {error}; metrics.jsonl is complete',
        stacklevel=3,
      )


def _run_id(path: pathlib.Path) -> str:
  """Returns the W&B run's id from the file, or writes a new one there."""
  if not path.exists():
    atomic.write_text(path, uuid.uuid4().hex[:12] + '\n')
  return path.read_text(encoding='utf-8').strip()
