"""The command line: a configuration file, overrides of its fields, a folder.

Whatever is wrong with it becomes one line that names the flag, its value and
what is allowed.
"""

import contextlib
import pathlib
import re
import sys
import traceback
import typing
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from absl import flags
from ml_collections import config_flags

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax import quiet
from mbmpo_jax import validation
from mbmpo_jax.training.launch import device_flags
from mbmpo_jax.training.launch import tiny

# Belong to the binary that calls `parse`, and so to its --help.
flags.disclaim_key_flags()

_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]+)')


class Arguments(NamedTuple):
  """A parsed command line."""

  config: config_lib.Config
  workdir: pathlib.Path
  devices: device_flags.DeviceFlags
  debug_nans: bool


def parse(
  argv: Sequence[str],
  *,
  default_config: pathlib.Path,
  default_workdir: str = 'runs/{config}',
  devices: bool = True,
  further: Sequence[str] = (),
  flag_values: flags.FlagValues = flags.FLAGS,
) -> Arguments:
  """Defines `--config`, its overrides and the others, and parses them.

  Args:
    argv: the program's name and its arguments.
    default_config: the configuration file where `--config` is not given.
    default_workdir: the folder where `--workdir` is not given; `{config}`
      stands for the configuration file's name.
    devices: whether there are the flags about devices and processes.
    further: names of the program's other flags, which it has defined.
    flag_values: the program's own flags by default.

  Raises:
    ConfigError: one line about what is wrong.
  """
  try:
    argv = flag_values.read_flags_from_files(list(argv), force_gnu=False)
  except flags.Error as error:
    raise config_lib.ConfigError(_one_line(error)) from error
  path, overrides = _split(argv[1:], default=str(default_config))
  _check_file(path, default_config.parent)
  _check_overrides(overrides)
  overrides, cleared = _take_none(overrides)
  # The file comes first, so that no override is lost to it.
  argv = [argv[0], f'--config={path}', *overrides]
  _define(argv, default_config, default_workdir, flag_values)
  if devices:
    device_flags.define(flag_values)
    further = (*device_flags.DeviceFlags._fields, *further)
  known = ['config', 'config.<field>', 'workdir', 'debug_nans', *further]
  _check_no_rest(_parse_flags(argv, path, known, flag_values))
  config = flag_values['config'].value
  if not isinstance(config, config_lib.Config):
    raise config_lib.ConfigError(
      f'--config={path}: get_config() must return a mbmpo_jax.config.Config,'
      f' not {type(config).__name__}'
    )
  config = config_lib.replaced(config, dict.fromkeys(cleared))
  validation.validate(config)
  if tiny.wanted():
    config = tiny.shrink(config)
  workdir = flag_values['workdir'].value
  if workdir == '':
    raise config_lib.ConfigError("--workdir='': must name a folder")
  quiet.quiet_logging(flag_values)
  workdir = workdir or default_workdir.format(config=pathlib.Path(path).stem)
  shared = device_flags.NONE
  if devices:
    shared = device_flags.read(flag_values)
  debug_nans = bool(flag_values['debug_nans'].value)
  return Arguments(config, pathlib.Path(workdir), shared, debug_nans)


def parse_defined(
  argv: Sequence[str],
  names: Sequence[str],
  *,
  required: Sequence[str] = (),
  flag_values: flags.FlagValues = flags.FLAGS,
) -> None:
  """Parses the flags of a program that has no configuration.

  Args:
    argv: the program's name and its arguments.
    names: of the flags, which it has defined.
    required: those that have no default.
    flag_values: the program's own flags by default.

  Raises:
    ConfigError: one line about what is wrong.
  """
  rest = _parse_flags(list(argv), '', names, flag_values)
  _check_no_rest(rest)
  for name in required:
    if not flag_values[name].value:
      raise config_lib.ConfigError(f'--{name}: is missing')
  quiet.quiet_logging(flag_values)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
  """Turns bad input into one line on stderr and the error's exit code."""
  try:
    yield
  except errors.UserError as error:
    lines = [f'error: {_one_line(error)}', *getattr(error, '__notes__', ())]
    _exit('\n  '.join(lines), error.exit_code)
  except KeyboardInterrupt:
    _exit('interrupted; the same command continues from the last save', 130)


def _exit(message: str, code: int) -> NoReturn:
  print(message, file=sys.stderr)
  sys.exit(code)


def _split(arguments: Sequence[str], *, default: str) -> tuple[str, list[str]]:
  """The last value of `--config`, and the arguments without it."""
  path, others = default, []
  remaining = iter(arguments)
  for argument in remaining:
    name, equals, value = argument.partition('=')
    if name in ('--config', '-config'):
      path = value if equals else next(remaining, '')
    else:
      others.append(argument)
  return path, others


def _check_file(path: str, presets: pathlib.Path) -> None:
  """The configuration file exists."""
  file = pathlib.Path(path.partition(':')[0])
  if file.is_file():
    return
  beside = _config_files(file.parent) if path else []
  folder, names = (
    (file.parent, beside) if beside else (presets, _config_files(presets))
  )
  raise config_lib.ConfigError(
    f'--config={path}: no such file{validation.nearest(file.name, names)};'
    f' {folder} has {", ".join(names)}'
  )


def _config_files(folder: pathlib.Path) -> list[str]:
  """The names of the files there that define `get_config`."""
  files = [p for p in sorted(folder.glob('*.py')) if p.is_file()]
  return [p.name for p in files if b'def get_config(' in p.read_bytes()]


def _check_overrides(arguments: Sequence[str]) -> None:
  """Every `--config.<field>` names a field."""
  allowed = validation.allowed_values()
  for argument in arguments:
    match = _OVERRIDE.match(argument)
    if match is None or match[1] in allowed:
      continue
    name = match[1]
    inside = [n for n in allowed if n.startswith(name + '.')]
    if inside:
      raise config_lib.ConfigError(
        f'{argument}: {name} is a section; its fields are {", ".join(inside)}'
      )
    hint = validation.nearest(name, allowed)
    section = name.rpartition('.')[0]
    prefix = f'{section}.' if section else ''
    # Fields and, at the top, sections; in order, each once.
    siblings = dict.fromkeys(
      prefix + n.removeprefix(prefix).partition('.')[0]
      for n in allowed
      if n.startswith(prefix)
    )
    if not hint and siblings:
      hint = f'; there are {", ".join(siblings)}'
    raise config_lib.ConfigError(f'{argument}: unknown field{hint}')


def _take_none(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits off the fields that are set to None, which config_flags cannot.

  Returns:
    The other arguments, and the names of the fields. The last override of a
    field counts.
  """
  optional = {
    name
    for name, hint, _ in config_lib.leaves(config_lib.Config)
    if type(None) in typing.get_args(hint)
  }
  others: list[str] = []
  cleared: dict[str, None] = {}
  for argument in arguments:
    match = _OVERRIDE.match(argument)
    name = match[1] if match else ''
    cleared.pop(name, None)
    if name in optional and argument.partition('=')[2] == 'None':
      cleared[name] = None
    else:
      others.append(argument)
  return others, list(cleared)


def _define(
  argv: list[str],
  default_config: pathlib.Path,
  default_workdir: str,
  flag_values: flags.FlagValues,
) -> None:
  config_flags.DEFINE_config_file(
    'config',
    None,
    'Python file whose get_config() returns a mbmpo_jax.config.Config;'
    f' --config.<field>=<value> changes a field. By default {default_config}.',
    flag_values=flag_values,
    sys_argv=argv,
  )
  flags.DEFINE_string(
    'workdir',
    None,
    'Where everything is kept; what is found there is continued. By default '
    + default_workdir.format(config="<the configuration file's name>")
    + '.',
    flag_values=flag_values,
  )
  flags.DEFINE_boolean(
    'debug_nans',
    False,
    'Whether to stop at the first number that is not finite and tell the line'
    ' of code it comes from, instead of leaving it out. On one device; takes'
    ' more memory.',
    flag_values=flag_values,
  )


def _check_no_rest(rest: Sequence[str]) -> None:
  if rest:
    raise config_lib.ConfigError(
      f'{rest[0]}: unexpected argument; every setting is --flag=value'
    )


def _parse_flags(
  argv: list[str],
  path: str,
  known: Sequence[str],
  flag_values: flags.FlagValues,
) -> list[str]:
  """Lets absl parse, and says in one line what it or the file objects to."""
  try:
    with warnings.catch_warnings():
      # How config_flags loads the file.
      warnings.filterwarnings('ignore', 'the load_module', DeprecationWarning)
      return flag_values(argv)[1:]
  except flags.UnrecognizedFlagError as error:
    *others, last = (f'--{name}' for name in known)
    raise config_lib.ConfigError(
      f'{error.flagvalue}: unknown flag'
      f'{validation.nearest(error.flagname, known)}; there are'
      f' {", ".join(others)} and {last}'
    ) from error
  except Exception as error:
    # The configuration file runs in here and may raise anything.
    raise config_lib.ConfigError(_explain(error, path)) from error


def _explain(error: Exception, path: str) -> str:
  """One line about what absl, or the configuration file, raised."""
  text = _one_line(error)
  override = re.match(r'flag --config\.([^=]+)=(.*?): ', text)
  if override:
    name, value = override.groups()
    allowed = validation.allowed_values()[name]
    return f'--config.{name}={value}: must be {allowed}'
  if isinstance(error, flags.Error) and not text.startswith('flag --config='):
    return text
  root: BaseException = error
  while root.__context__ is not None:
    root = root.__context__
  where = ''
  for frame in traceback.extract_tb(root.__traceback__):
    if pathlib.Path(frame.filename).name == pathlib.Path(path).name:
      where = f'line {frame.lineno}: '
  return f'--config={path}: {where}{type(root).__name__}: {_one_line(root)}'


def _one_line(error: BaseException) -> str:
  return ' '.join(str(error).split())
