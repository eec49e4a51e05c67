"""What a folder's configuration file says, and what does not go on with it."""

import dataclasses
import json
import pathlib
from typing import ClassVar

import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training.storage import folder as folder_lib
from tests import tiny


@dataclasses.dataclass(unsafe_hash=True)
class _Other(config_lib.Experiment):
  algorithm: ClassVar[str] = 'other'


def _change(file: pathlib.Path, **fields: object) -> None:
  """Other values in a JSON file; those that are None are left out."""
  known = {**json.loads(file.read_text()), **fields}
  file.write_text(json.dumps({k: v for k, v in known.items() if v is not None}))


@pytest.mark.parametrize('name', algorithms.names())
def test_configuration_comes_back_as_its_algorithms(
  name: str, tmp_path: pathlib.Path
) -> None:
  """With tuples where it had them, and defaults for fields that are new."""
  config = algorithms.config(name)(seed=3)
  folder = folder_lib.RunFolder(tmp_path / 'run')
  folder.create(config)
  assert json.loads(folder.config.read_text())['algorithm'] == name
  assert folder.read_config() == config
  assert type(folder.read_config()) is type(config)
  folder.check_resumable(config)
  _change(folder.config, env=None)
  assert folder.read_config() == config


def _run(root: pathlib.Path):
  """A run's folder and file, and its check."""
  folder = folder_lib.RunFolder(root)
  folder.create(tiny.point_config())
  return folder.config, folder.check_resumable


def _sweep(root: pathlib.Path):
  """A sweep's that has a checkpoint, and its check."""
  folder = folder_lib.SweepFolder(root)
  folder.create(grid_lib.Grid(tiny.point_config(), {}))
  (root / 'seed=0' / 'checkpoints' / '1').mkdir(parents=True)
  return (
    folder.sweep,
    lambda config: folder.check_resumable(grid_lib.Grid(config, {})),
  )


@pytest.mark.parametrize('make', [_run, _sweep])
def test_another_algorithm_or_version_does_not_go_on(
  make, tmp_path: pathlib.Path
) -> None:
  """One line that says which it was."""
  config = tiny.point_config()
  file, check = make(tmp_path)
  check(config)
  for wanted, was, said in (
    (_Other(), 'mbmpo', "algorithm='other': .* was started with 'mbmpo'"),
    (config, None, 'names no algorithm, so an earlier version made it'),
    (config, ['mbmpo'], 'an earlier version made it'),
  ):
    _change(file, algorithm=was)
    with pytest.raises(config_lib.ConfigError, match=said) as error:
      check(wanted)
    assert '\n' not in str(error.value)
    assert str(tmp_path) in str(error.value)
