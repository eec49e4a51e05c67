"""Parses the command line: a configuration file, its overrides, a folder.

Every error becomes one line that names the flag, its value and what is allowed.
"""

import contextlib
import math
import os
import pathlib
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import config_flags

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax import quiet
from mbmpo_jax import validation
from mbmpo_jax.training.launch import device_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import presets
from mbmpo_jax.training.launch import tiny
from mbmpo_jax.training.reporting import output

# The flags belong to the binary that calls `parse`, so its --help shows them.
flags.disclaim_key_flags()

_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]+)')


class Arguments(NamedTuple):
  """The parsed command line."""

  config: config_lib.Experiment
  workdir: pathlib.Path
  devices: device_flags.DeviceFlags
  debug_nans: bool


def parse(
  argv: Sequence[str],
  *,
  default_config: pathlib.Path,
  default_workdir: str = 'runs/{config}{seed}',
  devices: bool = True,
  further: Sequence[str] = (),
  define: Callable[[type[config_lib.Experiment]], Sequence[str]] | None = None,
  flag_values: flags.FlagValues = flags.FLAGS,
) -> Arguments:
  """Defines `--config`, its overrides and the other flags, and parses them.

  The first argument may be the configuration's name, without `--config=`.

  Args:
    argv: the program's name and its arguments.
    default_config: the preset if `--config` is not given.
    default_workdir: the folder if `--workdir` is not given. `{config}` stands
      for the preset's name, see `presets.load`; `{seed}` stands for `,seed=<n>`
      if the seed differs from the preset's, else for nothing.
    devices: whether to define the flags for devices and processes.
    further: names of the program's other flags, which are already defined.
    define: defines flags that depend on the class of the configuration, and
      returns their names.
    flag_values: by default the program's flags.

  Raises:
    ConfigError: one line about the error.
  """
  try:
    argv = flag_values.read_flags_from_files(list(argv), force_gnu=False)
  except flags.Error as error:
    raise config_lib.ConfigError(_one_line(error)) from error
  argv = _named_first(argv, 'config')
  text, overrides = _split(argv[1:], default=str(default_config))
  preset, name = presets.load(text, default_config)
  kind = type(preset)
  _check_overrides(overrides, kind)
  overrides, cleared = _take_none(overrides, kind)
  argv = [argv[0], *overrides]
  _define(argv, preset, default_config, default_workdir, flag_values)
  if any(re.fullmatch('--?help(full|xml)', text) for text in argv):
    _define_fields(preset, flag_values)
  if define is not None:
    further = (*further, *define(kind))
  if devices:
    device_flags.define(flag_values)
    further = (*device_flags.DeviceFlags._fields, *further)
  known = ['config', 'config.<field>', 'workdir', imports.FLAG, 'debug_nans']
  known += further
  _check_no_rest(_parse_flags(argv, known, flag_values, kind))
  config: Any = flag_values['config'].value
  config = config_lib.replaced(config, dict.fromkeys(cleared))
  validation.validate(config)
  if tiny.wanted():
    config = tiny.shrink(config)
  imports.check(flag_values)
  workdir = flag_values['workdir'].value
  if workdir == '':
    raise config_lib.ConfigError("--workdir='': must name a folder")
  quiet.quiet_logging(flag_values)
  seed = '' if config.seed == preset.seed else f',seed={config.seed}'
  workdir = workdir or default_workdir.format(config=name, seed=seed)
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
  of_run: bool = False,
  flag_values: flags.FlagValues = flags.FLAGS,
) -> None:
  """Parses the flags of a program without a configuration.

  Args:
    argv: the program's name and its arguments.
    names: the names of its flags, which are already defined.
    required: flags without a default.
    of_run: whether the program reads a run's folder. The first argument may
      then be that folder, without `--workdir=`, and `--import` is available.
    flag_values: by default the program's flags.

  Raises:
    ConfigError: one line about the error.
  """
  argv = list(argv)
  if of_run:
    argv = _named_first(argv, 'workdir')
    imports.define(flag_values)
    names = (*names, imports.FLAG)
  _check_no_rest(_parse_flags(argv, names, flag_values))
  if of_run:
    imports.check(flag_values)
  for name in required:
    if not flag_values[name].value:
      raise config_lib.ConfigError(f'--{name}: is missing')
  for name in names:
    # absl's bounds accept NaN.
    value = flag_values[name].value
    if isinstance(value, float) and not math.isfinite(value):
      raise config_lib.ConfigError(f'--{name}={value}: must be finite')
  quiet.quiet_logging(flag_values)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
  """A context that turns user errors into one line on stderr and an exit code.

  Warnings are one line, too.
  """
  try:
    with quiet.plain_warnings():
      yield
  except errors.UserError as error:
    lines = [f'error: {_one_line(error)}', *errors.notes(error)]
    _exit('\n  '.join(lines), error.exit_code)
  except BrokenPipeError:
    output.give_up()  # The reader of the pipe has closed it.
    sys.exit(0)
  except (RuntimeError, AssertionError, MemoryError) as error:
    said = _of_jax(error)
    if said is None:
      raise
    _exit(f'error: {said}', errors.UserError.exit_code)
  except KeyboardInterrupt:
    _exit('interrupted; a run continues from its last checkpoint', 130)


def _of_jax(error: BaseException) -> str | None:
  """Returns a line about a JAX error that users can fix; else `None`."""
  found = re.search(r"[Uu]nable to initialize backend '(\w+)'", str(error))
  known = re.search(r'[Uu]nknown backend:? .*', str(error))
  trace = traceback.extract_tb(error.__traceback__)
  # JAX 0.10 raises this if none of several requested platforms exists.
  unsaid = isinstance(error, AssertionError) and trace[-1].filename.endswith(
    'jax/_src/xla_bridge.py'
  )
  if found or known or unsaid:
    asked = os.environ.get('JAX_PLATFORMS', '')
    return (
      f'JAX_PLATFORMS={asked}: must name platforms for which JAX finds a'
      f' device, such as cpu: {_one_line(error)[:300] or "none was found"}'
    )
  if 'RESOURCE_EXHAUSTED' in str(error) or isinstance(error, MemoryError):
    from mbmpo_jax.training import memory  # imports JAX

    return memory.said_of(error)
  return None


def _exit(message: str, code: int) -> NoReturn:
  # A name in a file may contain anything, such as terminal control codes.
  lines = [
    ''.join(
      c if c.isprintable() else c.encode('unicode_escape').decode()
      for c in line
    )
    for line in message.split('\n')
  ]
  with contextlib.suppress(OSError, ValueError):
    print('\n'.join(lines), file=sys.stderr)
  sys.exit(code)


def _named_first(argv: Sequence[str], flag: str) -> list[str]:
  """Adds the flag's name to the first argument if that is not a flag."""
  program, *arguments = argv
  if arguments and not arguments[0].startswith('-') and '=' not in arguments[0]:
    arguments[0] = f'--{flag}={arguments[0]}'
  return [program, *arguments]


def _split(arguments: Sequence[str], *, default: str) -> tuple[str, list[str]]:
  """Returns the last value of `--config`, and the arguments without it."""
  path, others = default, []
  remaining = iter(arguments)
  for argument in remaining:
    name, equals, value = argument.partition('=')
    if name in ('--config', '-config'):
      path = value if equals else next(remaining, '')
    else:
      others.append(argument)
  return path, others


def _check_overrides(
  arguments: Sequence[str], kind: type[config_lib.Experiment]
) -> None:
  """Checks that every `--config.<field>` names a field of the configuration."""
  allowed = validation.allowed_values(kind)
  for argument in arguments:
    match = _OVERRIDE.match(argument)
    if match is None or match[1] in allowed:
      continue
    name = match[1]
    if name == 'algorithm':
      raise config_lib.ConfigError(
        f'{argument}: must be set by --config=<algorithm>/<preset>, with one of'
        f' {", ".join(algorithms.names())}'
      )
    inside = [n for n in allowed if n.startswith(name + '.')]
    if inside:
      raise config_lib.ConfigError(
        f'{argument}: {name} is a section; its fields are {", ".join(inside)}'
      )
    near = validation.nearest_field(name, allowed)
    raise config_lib.ConfigError(
      f'{argument}: algorithm {kind.algorithm!r} has no such field'
      f'{near or _siblings(name, allowed)}'
    )


def _siblings(name: str, allowed: Iterable[str]) -> str:
  """Lists the fields and sections beside a name, or at the top level."""
  section = name.rpartition('.')[0]
  prefix = f'{section}.' if section else ''
  if not any(n.startswith(prefix) for n in allowed):
    prefix = ''
  # A dict, to keep the order and drop repetitions.
  found = dict.fromkeys(
    prefix + n.removeprefix(prefix).partition('.')[0]
    for n in allowed
    if n.startswith(prefix)
  )
  return f'; known names are {", ".join(found)}'


def _take_none(
  arguments: Sequence[str], kind: type[config_lib.Experiment]
) -> tuple[list[str], list[str]]:
  """Removes overrides that set a field to None; config_flags cannot parse them.

  Returns:
    The other arguments, and the names of the fields. The last override of a
    field counts.
  """
  optional = {
    name
    for name, hint, _ in config_lib.leaves(kind)
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
  preset: config_lib.Experiment,
  default_config: pathlib.Path,
  default_workdir: str,
  flag_values: flags.FlagValues,
) -> None:
  config_flags.DEFINE_config_dataclass(
    'config',
    preset,
    'Name of a preset, <algorithm>/<preset>, or a Python file whose'
    " get_config() returns an algorithm's Config; --config.<field>=<value>"
    ' changes a field; --helpfull lists all fields.',
    flag_values=flag_values,
    sys_argv=argv,
  )
  default = f'{default_config.parent.name}/{default_config.stem}'
  flag_values['config'].default_as_str = repr(default)
  flags.DEFINE_string(
    'workdir',
    None,
    'Folder for all output; a run found there is continued. By default '
    + default_workdir.format(
      config="<the preset's name>", seed='[,seed=<another seed>]'
    )
    + '.',
    flag_values=flag_values,
  )
  imports.define(flag_values)
  flags.DEFINE_boolean(
    'debug_nans',
    False,
    'Whether to stop at the first number that is not finite and report the line'
    ' of code that produced it, instead of leaving the number out. Needs a'
    ' single device and more memory.',
    flag_values=flag_values,
  )


def _define_fields(
  preset: config_lib.Experiment, flag_values: flags.FlagValues
) -> None:
  """Defines every field of the configuration, for `--helpfull`."""
  values = config_lib.flatten(preset)
  for name, allowed in validation.allowed_values(type(preset)).items():
    if f'config.{name}' not in flag_values:
      flags.DEFINE_string(
        f'config.{name}',
        str(values[name]),
        f'Must be {allowed}.',
        flag_values=flag_values,
      )


def _check_no_rest(rest: Sequence[str]) -> None:
  if rest:
    raise config_lib.ConfigError(
      f'{rest[0]}: unexpected argument; every setting is --flag=value'
    )


def _parse_flags(
  argv: list[str],
  known: Sequence[str],
  flag_values: flags.FlagValues,
  kind: type[config_lib.Experiment] = config_lib.Experiment,
) -> list[str]:
  """Parses with absl, and turns its errors into one line."""
  try:
    return flag_values(argv)[1:]
  except flags.UnrecognizedFlagError as error:
    raise config_lib.ConfigError(
      f'{error.flagvalue}: unknown flag'
      f'{validation.nearest(error.flagname, known)}; known:'
      f' {", ".join(f"--{name}" for name in known)}'
    ) from error
  except flags.Error as error:
    text = _one_line(error)
    override = re.match(r'flag --config\.([^=]+)=(.*?): ', text)
    if override:
      name, value = override.groups()
      allowed = validation.allowed_values(kind)[name]
      text = f'--config.{name}={value}: must be {allowed}'
    raise config_lib.ConfigError(text) from error


def _one_line(error: BaseException) -> str:
  return ' '.join(str(error).split())
