"""The folder of a run: what is in it, and the configuration that made it."""

import dataclasses
import json
import pathlib
from typing import Any

from mbmpo_jax import config as config_lib

# Fields of the host's side, which change no random number of the run.
_FREE = ('run.',)


class RunFolder:
  """The paths of a run's files.

  Attributes:
    root: the folder, `--workdir`.
    config: the resolved configuration, JSON.
    metrics: one JSON object per iteration.
    tensorboard: a folder of TensorBoard events.
    checkpoints: a folder of checkpoints.
    curve: the learning curve, PNG.
  """

  def __init__(self, root: pathlib.Path) -> None:
    """Writes nothing.

    Raises:
      ConfigError: if `root` is, or lies below, something that is no folder.
    """
    for path in (root, *root.absolute().parents):
      if path.exists() and not path.is_dir():
        raise config_lib.ConfigError(
          f'--workdir={root}: must be a folder, but {path} is a file'
        )
    self.root = root
    self.config = root / 'config.json'
    self.metrics = root / 'metrics.jsonl'
    self.tensorboard = root / 'tensorboard'
    self.checkpoints = root / 'checkpoints'
    self.curve = root / 'learning_curve.png'

  def has_checkpoints(self) -> bool:
    """Whether a run has got as far as its first checkpoint here."""
    if not self.checkpoints.is_dir():
      return False
    return any(path.name.isdigit() for path in self.checkpoints.iterdir())

  def create(self, config: config_lib.Config) -> None:
    """Creates the folder and writes `config.json`.

    Raises:
      ConfigError: if the file system does not allow it.
    """
    text = json.dumps(dataclasses.asdict(config), indent=2) + '\n'
    try:
      self.root.mkdir(parents=True, exist_ok=True)
      write_text(self.config, text)
    except OSError as error:
      raise config_lib.ConfigError(
        f'--workdir={self.root}: cannot be written: {error.strerror}'
      ) from error

  def check_resumable(self, config: config_lib.Config) -> None:
    """Compares with the configuration that the run was started with.

    Everything under `run.` may change: how long, how often, what is kept. A
    field that did not exist then had what is its default now.

    Raises:
      ConfigError: naming the first field that differs, both values.
    """
    try:
      old = _flatten(json.loads(self.config.read_text(encoding='utf-8')))
    except (OSError, ValueError) as error:
      raise config_lib.ConfigError(
        f'--workdir={self.root}: has checkpoints, but its config.json cannot'
        f' be read ({error}); restore it or use another --workdir'
      ) from error
    # Through JSON, as the old one went: tuples become lists.
    new, default = (
      json.loads(json.dumps(config_lib.flatten(x)))
      for x in (config, config_lib.Config())
    )
    for name in [*new, *(name for name in old if name not in new)]:
      before = old.get(name, default.get(name, 'absent'))
      after = new.get(name, 'absent')
      if before != after and not name.startswith(_FREE):
        raise config_lib.ConfigError(
          f'{name}={after!r}: the run in {self.root} was started with'
          f' {before!r}; set that back or use another --workdir'
        )


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file's content, never leaving half of it."""
  temporary = path.with_name(f'.{path.name}.tmp')
  temporary.write_text(text, encoding='utf-8')
  temporary.replace(path)


def _flatten(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  leaves = {}
  for name, value in tree.items():
    if isinstance(value, dict):
      leaves.update(_flatten(value, f'{prefix}{name}.'))
    else:
      leaves[prefix + name] = value
  return leaves
