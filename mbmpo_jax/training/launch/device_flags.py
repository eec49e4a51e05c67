"""Flags for devices and processes, shared by all training binaries."""

import re
from typing import Any, NamedTuple

from absl import flags

from mbmpo_jax import config as config_lib

# The flags belong to the binary that parses them, so its --help shows them.
flags.disclaim_key_flags()


class DeviceFlags(NamedTuple):
  """The values of the flags for devices and processes."""

  num_devices: int | None
  distributed: bool  # whether there are several processes
  coordinator_address: str | None
  num_processes: int | None
  process_id: int | None


NONE = DeviceFlags(None, False, None, None, None)


def define_num_devices(flag_values: flags.FlagValues, *, text: str) -> None:
  """Defines `--num_devices` alone; `text` is its help."""
  flags.DEFINE_integer(
    'num_devices', None, text, lower_bound=1, flag_values=flag_values
  )


def define(flag_values: flags.FlagValues) -> None:
  """Defines the flags."""
  define_num_devices(
    flag_values,
    text='Number of devices, over all processes, that share the work; by'
    ' default all available devices. On a CPU, this many devices are made of'
    ' its cores; by default the largest number that divides the work evenly and'
    ' is at most the number of cores.',
  )
  flags.DEFINE_boolean(
    'distributed',
    False,
    'Whether this is one of several processes of a run that are described by'
    " the cluster's environment variables (Slurm, Open MPI, Kubernetes, a TPU"
    ' pod).',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'coordinator_address',
    None,
    'For several processes outside such a cluster: host:port of the first'
    ' process.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'num_processes',
    None,
    'With --coordinator_address: number of processes.',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'process_id',
    None,
    'With --coordinator_address: index of this process, from 0.',
    lower_bound=0,
    flag_values=flag_values,
  )


def read(flag_values: flags.FlagValues) -> DeviceFlags:
  """Returns the values of the parsed flags.

  Raises:
    ConfigError: one line, if only some of the flags for several processes are
      given.
  """
  values: Any = (flag_values[name].value for name in DeviceFlags._fields)
  found = DeviceFlags(*values)
  together = {
    name: getattr(found, name)
    for name in ('coordinator_address', 'num_processes', 'process_id')
  }
  missing = [name for name, value in together.items() if value is None]
  if len(missing) == len(together):
    return found
  if missing:
    raise config_lib.ConfigError(
      f'--{missing[0]}: is missing; --coordinator_address, --num_processes and'
      ' --process_id must be given together'
    )
  if not re.fullmatch(r'.+:\d+', together['coordinator_address']):
    raise config_lib.ConfigError(
      f'--coordinator_address={found.coordinator_address}: must be host:port'
    )
  if together['process_id'] >= together['num_processes']:
    raise config_lib.ConfigError(
      f'--process_id={found.process_id}: must be < {found.num_processes},'
      ' --num_processes'
    )
  return found._replace(distributed=True)
