"""`--import`: runs user modules that register environments or algorithms.

  mbmpo train --import=my_worlds --config.env.name=maze
  mbmpo evaluate runs/maze --import=my_worlds

A module registers environments (`envs.register`) and algorithms
(`algorithms.register`). Only modules named on the command line are imported. A
run's folder records the module of its environment, and an error message names
it if it has to be imported. It is not imported automatically, because folders
may come from others and importing runs code.
"""

import importlib
import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Iterable

from absl import flags

from mbmpo_jax import config as config_lib

FLAG = 'import'

# The flag belongs to the binary that calls `define`.
flags.disclaim_key_flags()


def define(flag_values: flags.FlagValues) -> None:
  """Defines `--import`."""
  flags.DEFINE_multi_string(
    'import',
    [],
    'Your own module or Python file that registers environments or algorithms;'
    ' it is executed. May be given repeatedly.',
    flag_values=flag_values,
  )


def check(flag_values: flags.FlagValues) -> None:
  """Rejects a file that does not exist, without running anything.

  Raises:
    ConfigError: naming it.
  """
  for text in _named(flag_values):
    if _is_file(text) and not pathlib.Path(text).is_file():
      raise config_lib.ConfigError(f'--import={text}: no such file')


def run(flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Imports the modules of `--import`, unless they are already imported.

  Raises:
    ConfigError: one line about an error in a module.
  """
  load(_named(flag_values))


def _named(flag_values: flags.FlagValues) -> Iterable[str]:
  return flag_values[FLAG].value or ()


def load(names: Iterable[str]) -> None:
  """Imports modules by file, or by name, also from the working folder.

  Raises:
    ConfigError: one line about an error in a module.
  """
  for text in names:
    try:
      if _is_file(text):
        if not pathlib.Path(text).is_file():
          raise config_lib.ConfigError(f'--import={text}: no such file')
        _run_file(pathlib.Path(text).resolve())
      else:
        _import_from_here(text)
    except config_lib.ConfigError:
      raise
    except (Exception, SystemExit) as error:  # a module may raise anything
      raise config_lib.ConfigError(
        f'--import={text}: {_where(error)}{type(error).__name__}:'
        f' {" ".join(str(error).split())}'
      ) from error


def _is_file(text: str) -> bool:
  return text.endswith('.py') or '/' in text


def _import_from_here(name: str) -> None:
  # As `python -m` does; for a script, sys.path starts with its folder instead.
  sys.path.insert(0, str(pathlib.Path.cwd()))
  try:
    importlib.import_module(name)
  finally:
    sys.path.remove(str(pathlib.Path.cwd()))


def _run_file(path: pathlib.Path) -> None:
  """Runs a file once as a module, which can import its neighbours."""
  name = path.stem
  there = sys.modules.get(name)
  if there is not None:
    if _file(there) == path:
      return
    name = f'imported_{name}'
    if name in sys.modules:
      return
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise config_lib.ConfigError(f'--import={path}: must be a Python file')
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look up the names in annotations here.
  sys.modules[name] = module
  # Temporarily, because a run's folder must record the file's path, without
  # which it cannot be found (`envs.origin`).
  sys.path.append(str(path.parent))
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  finally:
    sys.path.remove(str(path.parent))


def _file(module: object) -> pathlib.Path | None:
  file = getattr(module, '__file__', None)
  return pathlib.Path(file).resolve() if file else None


def _where(error: BaseException) -> str:
  """Returns the innermost line of user code that raised the error."""
  frames = traceback.extract_tb(error.__traceback__)
  for frame in reversed(frames):
    if frame.filename.startswith('<') or frame.filename == __file__:
      continue
    if 'importlib' in frame.filename:
      continue
    return f'{pathlib.Path(frame.filename).name} line {frame.lineno}: '
  return ''
