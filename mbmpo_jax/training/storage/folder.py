"""Folders of runs and sweeps: their files, and checks before resumption."""

import dataclasses
import errno
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import validation
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import manifest

# Fields of the host, which do not affect the results of a run.
_FREE = ('run.', 'config.run.')
_CONFIG, _SWEEP = 'config.json', 'sweep.json'
# The key of the algorithm's name, beside the fields in both files.
_ALGORITHM = 'algorithm'
# The key, in both files, of JAX settings that affect the results bitwise.
ARITHMETIC = 'arithmetic'
_DECIDES = (
  'jax_enable_x64',
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_threefry_partitionable',
)


class RunFolder:
  """The paths of a run's files.

  Attributes:
    root: the folder, `--workdir`.
    config: the resolved configuration and the algorithm's name, JSON.
    metrics: one JSON object per iteration.
    machines: the machine, the versions and the commit of the run, and the
      iteration from which it continued there, a JSON object for each change.
    tensorboard: a folder of TensorBoard events.
    checkpoints: a folder of checkpoints.
    curve: the learning curve, PNG.
    profile: a folder of profiler traces, if requested.
    wandb_id: the id of the Weights & Biases run, if there is one.
    branch: the run and the iteration from which this run began, if it began
      from another run, JSON.
    page: a page that plays the best policy, HTML.
    video: a video of the best policy, MP4, if videos can be made.
  """

  def __init__(self, root: pathlib.Path) -> None:
    """Writes nothing.

    Raises:
      ConfigError: if `root` or one of its parents is not a folder, or `root`
        contains a sweep.
    """
    _check_folder(root)
    if (root / _SWEEP).exists():
      raise config_lib.ConfigError(
        f'--workdir={root}: contains a sweep; use one of its folders, or'
        ' another --workdir'
      )
    self.root = root
    self.config = root / _CONFIG
    self.metrics = root / 'metrics.jsonl'
    self.machines = root / 'machines.jsonl'
    self.tensorboard = root / 'tensorboard'
    self.checkpoints = root / 'checkpoints'
    self.curve = root / 'learning_curve.png'
    self.profile = root / 'profile'
    self.wandb_id = root / 'wandb_id'
    self.branch = root / 'branch.json'
    self.page = root / 'policy.html'
    self.video = root / 'policy.mp4'

  def has_checkpoints(self) -> bool:
    """Whether there is at least one checkpoint."""
    if not self.checkpoints.is_dir():
      return False
    return any(
      manifest.is_step(path.name) for path in self.checkpoints.iterdir()
    )

  def create(self, config: config_lib.Experiment) -> None:
    """Creates the folder and writes `config.json`.

    Raises:
      ConfigError: if the file system does not allow it.
    """
    _create(self.config, _named(config) | dataclasses.asdict(config))

  def read_config(self) -> config_lib.Experiment:
    """Returns the configuration of the run; new fields have their defaults.

    Its class is that of the algorithm named in the file.

    Raises:
      ConfigError: if there is no configuration, it is not allowed, or it was
        written by an earlier version.
    """
    try:
      fields = {
        name: value
        for name, value in read_fields(self.config).items()
        if not name.startswith(f'{ARITHMETIC}.')
      }
    except (OSError, ValueError) as error:
      raise config_lib.ConfigError(
        f'--workdir={self.root}: must hold a run, but its {self.config.name}'
        f' cannot be read ({error})'
      ) from error
    _check_names_algorithm(self.config, fields)
    try:
      kind = algorithms.config(fields.pop(_ALGORITHM))
    except algorithms.UnknownAlgorithmError as error:
      raise config_lib.ConfigError(f'{self.config}: {error}') from error
    known = config_lib.flatten(kind())
    for name in fields:
      if name not in known:
        raise config_lib.ConfigError(
          f'{self.config}: unknown field {name}'
          f'{validation.nearest(name, known)}'
        )
    # JSON has no tuples.
    values = {
      n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()
    }
    config = config_lib.replaced(kind(), values)
    validation.validate(config)
    return config

  def check_resumable(self, config: config_lib.Experiment) -> None:
    """Checks that the run was started with this configuration.

    Fields under `run.` may differ: duration, frequencies, files. A field that
    did not exist when the run was started counts as its present default.

    Raises:
      ConfigError: naming the first field that differs and both values.
    """
    _check_unchanged(
      self.config,
      _flatten(_named(config)) | config_lib.flatten(config),
      config_lib.flatten(type(config)()),
    )


class SweepFolder:
  """The paths of a sweep's files; every run has a subfolder.

  Attributes:
    root: the folder, `--workdir`.
    sweep: the algorithm, the swept values, and the configuration that all runs
      share, JSON.
    curves: evaluations by setting, PNG.
  """

  def __init__(self, root: pathlib.Path) -> None:
    """Writes nothing.

    Raises:
      ConfigError: if `root` or one of its parents is not a folder, or `root`
        contains a single run.
    """
    _check_folder(root)
    if (root / _CONFIG).exists():
      raise config_lib.ConfigError(
        f'--workdir={root}: contains a single run; a sweep needs another folder'
      )
    self.root = root
    self.sweep = root / _SWEEP
    self.curves = root / 'learning_curves.png'

  def create(self, grid: grid_lib.Grid) -> None:
    """Creates the folder and writes `sweep.json`.

    Raises:
      ConfigError: if the file system does not allow it.
    """
    values = {name: list(swept) for name, swept in grid.values.items()}
    tree = {
      **_named(grid.config),
      'num_seeds': grid.num_seeds,
      'sweep': values,
      'config': dataclasses.asdict(grid.config),
    }
    _create(self.sweep, tree)

  def check_resumable(self, grid: grid_lib.Grid) -> None:
    """Checks that a sweep with checkpoints was started with this grid.

    Fields under `run.` may differ, as for a run.

    Raises:
      ConfigError: naming the first field that differs and both values.
    """
    found = self.root.glob('*/checkpoints/[0-9]*')
    if not any(manifest.is_step(path.name) for path in found):
      return
    swept = {f'sweep.{name}': values for name, values in grid.values.items()}
    common, default = (
      {
        f'config.{name}': value
        for name, value in config_lib.flatten(config).items()
        if name not in grid.values
      }
      for config in (grid.config, type(grid.config)())
    )
    _check_unchanged(
      self.sweep,
      _flatten(_named(grid.config))
      | {'num_seeds': grid.num_seeds}
      | swept
      | common,
      default,
      but=[f'config.{name}' for name in grid.values],
    )


def _check_folder(root: pathlib.Path) -> None:
  """Checks that `root` and its parents are folders or do not exist."""
  if '\0' in str(root):
    raise config_lib.ConfigError(
      f'--workdir={str(root)[:100]!r}: must be a folder name without a null'
      ' character'
    )
  for path in (root, *root.absolute().parents):
    try:
      is_other = path.exists() and not path.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
      raise config_lib.ConfigError(
        f'--workdir={str(root)[:100]}: must be a folder:'
        f' {getattr(error, "strerror", None) or error}'
      ) from error
    if is_other:
      raise config_lib.ConfigError(
        f'--workdir={root}: must be a folder, but {path} is a file'
      )


def _create(file: pathlib.Path, tree: dict[str, Any]) -> None:
  """Writes a JSON file, and creates its folder if needed."""
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(file, json.dumps(tree, indent=2) + '\n')
  except OSError as error:
    raise config_lib.ConfigError(
      f'--workdir={file.parent}: cannot be written: {error.strerror}'
    ) from error


def _check_unchanged(
  file: pathlib.Path,
  new: Mapping[str, Any],
  default: Mapping[str, Any],
  *,
  but: Sequence[str] = (),
) -> None:
  """Compares dotted fields with those in a JSON file.

  Args:
    file: the file that `_create` wrote when the run or sweep was started.
    new: the present fields.
    default: values of fields that did not exist then.
    but: fields to ignore.

  Raises:
    ConfigError: naming the first field that differs and both values.
  """
  try:
    old = read_fields(file)
  except (OSError, ValueError) as error:
    raise config_lib.ConfigError(
      f'--workdir={file.parent}: has checkpoints, but its {file.name} cannot'
      f' be read ({error}); restore it or use another --workdir'
    ) from error
  _check_names_algorithm(file, old)
  # Convert by JSON, as the old fields were: tuples become lists.
  new, default = (json.loads(json.dumps(fields)) for fields in (new, default))
  for name in [*new, *(name for name in old if name not in new)]:
    before = old.get(name, default.get(name, 'absent'))
    after = new.get(name, 'absent')
    if name.startswith(f'{ARITHMETIC}.'):
      _check_arithmetic(file, name, old.get(name, after), after)
      continue
    if before != after and not name.startswith(_FREE) and name not in but:
      now = f'{name}={after!r}' if name in new else name
      then = f'with {before!r}' if before != 'absent' else 'without it'
      raise config_lib.ConfigError(
        f'{now}: {file.parent} was started {then}; use the same again, or'
        ' another --workdir'
      )


def _named(config: config_lib.Experiment) -> dict[str, Any]:
  """Returns the entries of both files besides the fields."""
  return {
    _ALGORITHM: config.algorithm,
    ARITHMETIC: {name: getattr(jax.config, name) for name in _DECIDES},
  }


def _check_arithmetic(
  file: pathlib.Path, name: str, before: Any, after: Any
) -> None:
  """Checks that a run is resumed with the arithmetic it was started with.

  Files of earlier versions do not contain it; then the types in the checkpoints
  decide.
  """
  if before == after:
    return
  variable = name.removeprefix(f'{ARITHMETIC}.').upper()
  raise config_lib.ConfigError(
    f'{variable}={after}: {file.parent} was started with {variable}={before};'
    ' use the same again, or another --workdir'
  )


def _check_names_algorithm(
  file: pathlib.Path, fields: Mapping[str, Any]
) -> None:
  """Checks that the file names its algorithm; early versions did not."""
  if not isinstance(fields.get(_ALGORITHM), str):
    raise config_lib.ConfigError(
      f'{file}: names no algorithm, so an earlier version made it; use that'
      ' version, or train anew in another --workdir'
    )


def read_fields(file: pathlib.Path) -> dict[str, Any]:
  """Returns the fields in a `config.json` or `sweep.json`, by dotted name.

  Raises:
    OSError: if the file cannot be read.
    ValueError: if it is not a JSON object.
  """
  if not file.is_file():  # Reading a pipe would block.
    raise FileNotFoundError(errno.ENOENT, 'No such file', str(file))
  try:
    tree = json.loads(file.read_text(encoding='utf-8'))
  except RecursionError:
    raise ValueError('it is nested too deeply') from None
  if not isinstance(tree, dict):
    raise ValueError('it is not a JSON object')
  return _flatten(tree)


def _flatten(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  leaves = {}
  for name, value in tree.items():
    if isinstance(value, dict):
      leaves.update(_flatten(value, f'{prefix}{name}.'))
    else:
      leaves[prefix + name] = value
  return leaves
