"""Loads configuration files, by path or by the name of a preset.

Presets are files `<algorithm>/<name>.py` in one folder. Their `get_config()`
returns an algorithm's `Config`.
"""

import importlib.machinery
import importlib.util
import pathlib
import sys
import traceback
from types import ModuleType

import mbmpo_jax
from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax import validation

# The module name of a configuration file.
_MODULE = 'config_file'


def named(name: str) -> pathlib.Path:
  """Returns the file of the preset `<algorithm>/<preset>`.

  Presets are in `experiments/configs`; in the wheel, inside the package.
  """
  package = pathlib.Path(mbmpo_jax.__file__).resolve().parent
  packed = package / 'presets'
  root = (
    packed if packed.is_dir() else package.parent / 'experiments' / 'configs'
  )
  return root / f'{name}.py'


def load(text: str, default: pathlib.Path) -> tuple[config_lib.Experiment, str]:
  """Finds and runs the file that `--config=<text>` names.

  Args:
    text: a file's path; or a preset's name, such as `mbmpo/half_cheetah`; or a
      preset's name without the algorithm, which is then the default's
      algorithm, or else the only one that has such a preset. Text after a colon
      is passed to `get_config`.
    default: the default preset; its folder contains the others.

  Returns:
    The configuration, and its name. The name is `<algorithm>/<name>` if the
    file is in a folder named after its algorithm, otherwise the file's name. If
    the text after the colon is a word, it is appended after a dash.

  Raises:
    ConfigError: one line about an error in the name or in the file.
  """
  named, colon, argument = text.partition(':')
  path = _find(named, default)
  if path is None:
    raise config_lib.ConfigError(f'--config={text}: {_nothing(named, default)}')
  arguments = [argument] if colon else []
  presets = default.resolve().parent.parent
  is_argument = bool(colon) and path.resolve().is_relative_to(presets)
  try:
    config = _module(path).get_config(*arguments)
  except Exception as error:  # a file may raise anything
    raise config_lib.ConfigError(
      f'--config={text}: {_where(error, path, is_argument)}'
      f'{" ".join(str(error).split())}'
    ) from error
  if not isinstance(config, config_lib.Experiment):
    raise config_lib.ConfigError(
      f"--config={text}: get_config() must return an algorithm's Config, not"
      f' {type(config).__name__}'
    )
  try:
    algorithms.config(config.algorithm)
  except algorithms.UnknownAlgorithmError as error:
    raise config_lib.ConfigError(f'--config={text}: {error}') from error
  folder = path.absolute().parent.name
  is_preset = folder == config.algorithm
  name = f'{folder}/{path.stem}' if is_preset else path.stem
  return config, f'{name}-{argument}' if argument.isidentifier() else name


def _find(name: str, default: pathlib.Path) -> pathlib.Path | None:
  """Returns the file of that path, or of the preset of that name, or `None`."""
  root = default.parent.parent
  if name:
    for path in (
      pathlib.Path(name),
      root / f'{name}.py',
      default.parent / f'{name}.py',
    ):
      if _is_file(path):
        return path
  owners = _owners(name, root)
  return root / owners[0] / f'{name}.py' if len(owners) == 1 else None


def _owners(name: str, root: pathlib.Path) -> list[str]:
  """Returns the algorithms that have a preset of this name."""
  return [a for a, own in _presets(root).items() if name in own]


def _is_file(path: pathlib.Path) -> bool:
  try:
    return path.is_file()
  except (OSError, ValueError):  # a name too long, or with a NUL
    return False


def _nothing(name: str, default: pathlib.Path) -> str:
  """Lists the alternatives to a file or preset that does not exist."""
  presets = _presets(default.parent.parent)
  folder, slash, preset = name.rpartition('/')
  if name.endswith('.py') or '/' in folder:
    return _no_file(pathlib.Path(name), default)
  if folder in presets:
    known = presets[folder]
    return (
      f'no such preset{validation.nearest(preset, known)}; {folder} has'
      f' {", ".join(known)}'
    )
  if slash:
    return (
      f'no such algorithm{validation.nearest(folder, presets)}; algorithms with'
      f' presets are {", ".join(presets)}'
    )
  if owners := _owners(name, default.parent.parent):
    several = [f'{owner}/{name}' for owner in owners]
    return (
      'several algorithms have this preset: must be one of'
      f' {", ".join(several)}'
    )
  everything = [f'{a}/{p}' for a, own in presets.items() for p in own]
  hint = validation.nearest(name, presets.get(default.parent.name, ()))
  return f'no such file or preset{hint}; presets are {", ".join(everything)}'


def _no_file(file: pathlib.Path, default: pathlib.Path) -> str:
  """Lists the configuration files in the same folder, or in the default's."""
  folder = file.parent if _config_files(file.parent) else default.parent
  names = [f'{stem}.py' for stem in _config_files(folder)]
  hint = validation.nearest(file.name, names)
  return f'no such file{hint}; {folder} has {", ".join(names)}'


def _presets(root: pathlib.Path) -> dict[str, list[str]]:
  """Returns the names of the presets of each algorithm."""
  folders = {p.name: _config_files(p) for p in sorted(root.glob('*/'))}
  return {name: files for name, files in folders.items() if files}


def _config_files(folder: pathlib.Path) -> list[str]:
  """Returns the files in a folder that define `get_config`, without `.py`."""
  files = [p for p in sorted(folder.glob('*.py')) if p.is_file()]
  return [p.stem for p in files if b'def get_config(' in p.read_bytes()]


def _module(path: pathlib.Path) -> ModuleType:
  """Runs a file as a module, with any file extension."""
  loader = importlib.machinery.SourceFileLoader(_MODULE, str(path))
  spec = importlib.util.spec_from_loader(_MODULE, loader)
  assert spec is not None
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look up the names in annotations here.
  sys.modules[_MODULE] = module
  loader.exec_module(module)
  return module


def _where(error: Exception, path: pathlib.Path, is_argument: bool) -> str:
  """Returns the line in the file that raised the error, and the error's kind.

  A message for users needs no kind. It needs no line if it is about the text
  after the colon, which a preset checks.
  """
  is_told = isinstance(error, errors.UserError)
  if is_told and is_argument:
    return ''
  where = ''
  for frame in traceback.extract_tb(error.__traceback__):
    if frame.filename == str(path):
      where = f'line {frame.lineno}: '
  return where if is_told else f'{where}{type(error).__name__}: '
