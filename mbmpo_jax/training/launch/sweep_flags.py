"""Parses the command line of a sweep: a run's flags, swept values, seeds."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from mbmpo_jax import config as config_lib
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training.launch import device_flags
from mbmpo_jax.training.launch import flags as training_flags

# The flags belong to the binary that calls `parse`, so its --help shows them.
flags.disclaim_key_flags()


class Arguments(NamedTuple):
  """The parsed command line."""

  grid: grid_lib.Grid
  workdir: pathlib.Path
  num_devices: int | None
  debug_nans: bool


def parse(
  argv: Sequence[str],
  *,
  default_config: pathlib.Path,
  flag_values: flags.FlagValues = flags.FLAGS,
) -> Arguments:
  """Defines and parses a run's flags and those of a sweep.

  The latter are `--num_seeds`, `--num_devices` and `--sweep.<field>`.

  Args:
    argv: the program's name and its arguments.
    default_config: the preset if `--config` is not given.
    flag_values: by default the program's flags.

  Raises:
    ConfigError: one line about the error.
  """
  flags.DEFINE_string(
    'num_seeds',
    '1',
    'Number of runs per setting, with the seeds --config.seed,'
    ' --config.seed + 1, ...',
    flag_values=flag_values,
  )
  device_flags.define_num_devices(
    flag_values,
    text='Number of devices that share the runs; by default the largest number'
    ' that divides the number of runs and is at most the number of available'
    ' devices. On a CPU, this many devices are made of its cores.',
  )
  kinds: list[type[config_lib.Experiment]] = []

  def define(kind: type[config_lib.Experiment]) -> list[str]:
    kinds.append(kind)
    swept = config_lib.sweepable(kind)
    for name in swept:
      flags.DEFINE_string(
        f'sweep.{name}',
        None,
        f'Values of {name}, separated by commas: each'
        f' {grid_lib.allowed(kind, name)}.',
        flag_values=flag_values,
      )
    return [f'sweep.{name}' for name in swept]

  try:
    config, workdir, _, debug_nans = training_flags.parse(
      argv,
      default_config=default_config,
      default_workdir='runs/{config}_sweep',
      devices=False,
      further=('num_seeds', 'num_devices'),
      define=define,
      flag_values=flag_values,
    )
  except config_lib.ConfigError as error:
    cause = error.__cause__
    if isinstance(cause, flags.UnrecognizedFlagError):
      section, _, name = cause.flagname.partition('.')
      if section == 'sweep':
        grid_lib.check_field(kinds[0], name)
    raise
  kind = type(config)
  texts = {
    name: flag_values[f'sweep.{name}'].value
    for name in config_lib.sweepable(kind)
  }
  grid = grid_lib.Grid(
    config,
    {
      name: _numbers(kind, name, text)
      for name, text in texts.items()
      if text is not None
    },
    num_seeds=_num_seeds(str(flag_values['num_seeds'].value)),
  )
  return Arguments(grid, workdir, flag_values['num_devices'].value, debug_nans)


def _num_seeds(text: str) -> int:
  try:
    return int(text)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--num_seeds={text}: must be an int >= 1'
    ) from error


def _numbers(
  kind: type[config_lib.Experiment], name: str, text: str
) -> tuple[float, ...]:
  try:
    return tuple(float(value) for value in text.split(','))
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--sweep.{name}={text}: must be values separated by commas, each'
      f' {grid_lib.allowed(kind, name)}'
    ) from error
