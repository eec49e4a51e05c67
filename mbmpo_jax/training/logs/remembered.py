"""Files in a run's folder that describe the log it learns from."""

import json
import pathlib

from mbmpo_jax import config as config_lib
from mbmpo_jax.training.logs import log as log_lib
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import folder as folder_lib

_NAME = 'log.json'
HELD_OUT = 'held_out.npz'


def write(
  root: pathlib.Path,
  log: log_lib.Log,
  held_out: log_lib.Log,
  findings: list[str],
) -> None:
  """Writes the findings in the log, and the held-out rows.

  Raises:
    WriteError: if the folder cannot be written.
  """
  tree = dict(
    file=log.name,
    digest=log.digest(),
    rows=log.size,
    columns=list(log.columns),
    action_low=log.low.tolist(),
    action_high=log.high.tolist(),
    findings=findings,
  )
  with atomic.writing(root):
    atomic.write_text(root / _NAME, json.dumps(tree, indent=2) + '\n')
  log_lib.write(held_out, root / HELD_OUT)


def check(root: pathlib.Path, log: log_lib.Log) -> None:
  """Checks that a run is resumed with the log that it was started with.

  Raises:
    ConfigError: naming both files, or that there was none.
  """
  try:
    found = folder_lib.read_fields(root / _NAME)
  except (OSError, ValueError) as error:
    raise config_lib.ConfigError(
      f'--workdir={root}: holds a run, but its {_NAME} cannot be read'
      f' ({error}): use another --workdir'
    ) from error
  if found.get('digest') != log.digest():
    raise config_lib.ConfigError(
      f'--data={log.name}: the run in {root} was started with other rows, of'
      f' {str(found.get("file"))[:200]}: use another --workdir'
    )
