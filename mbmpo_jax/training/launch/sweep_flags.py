"""The command line of a sweep: that of a run, the values swept, the seeds."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from mbmpo_jax import config as config_lib
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training.launch import device_flags
from mbmpo_jax.training.launch import flags as training_flags

# Belong to the binary that calls `parse`, and so to its --help.
flags.disclaim_key_flags()


class Arguments(NamedTuple):
  """A parsed command line."""

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
    default_config: the configuration file where `--config` is not given.
    flag_values: the program's own flags by default.

  Raises:
    ConfigError: one line about what is wrong.
  """
  flags.DEFINE_string(
    'num_seeds',
    '1',
    'Runs per setting: seeds --config.seed, --config.seed + 1, ...',
    flag_values=flag_values,
  )
  device_flags.define_num_devices(
    flag_values,
    text='Devices that share the runs; by default all there are, as far as the'
    ' runs divide. On a CPU, so many are made of its cores; by default one of'
    ' each, likewise.',
  )
  for name in grid_lib.SWEEPABLE:
    flags.DEFINE_string(
      f'sweep.{name}',
      None,
      f'Values of {name}, separated by commas: each {grid_lib.allowed(name)}.',
      flag_values=flag_values,
    )
  try:
    config, workdir, _, debug_nans = training_flags.parse(
      argv,
      default_config=default_config,
      default_workdir='runs/{config}_sweep',
      devices=False,
      further=(
        'num_seeds',
        'num_devices',
        *(f'sweep.{n}' for n in grid_lib.SWEEPABLE),
      ),
      flag_values=flag_values,
    )
  except config_lib.ConfigError as error:
    cause = error.__cause__
    if isinstance(cause, flags.UnrecognizedFlagError):
      section, _, name = cause.flagname.partition('.')
      if section == 'sweep':
        grid_lib.check_field(name)
    raise
  texts = {n: flag_values[f'sweep.{n}'].value for n in grid_lib.SWEEPABLE}
  grid = grid_lib.Grid(
    config,
    {
      name: _numbers(name, text)
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


def _numbers(name: str, text: str) -> tuple[float, ...]:
  try:
    return tuple(float(value) for value in text.split(','))
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--sweep.{name}={text}: must be values separated by commas, each'
      f' {grid_lib.allowed(name)}'
    ) from error
