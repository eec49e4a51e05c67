"""Reduces any experiment to sizes that run in seconds.

With `MBMPO_JAX_TINY=1` in the environment, the programs of `experiments/` and
`benchmarks/` use these sizes and print a note. Nothing is learned with them.
The tests use them to execute every command of the documentation.
"""

import os
import sys
from typing import Any, TypeVar

from mbmpo_jax import config as config_lib

VARIABLE = 'MBMPO_JAX_TINY'

_Config = TypeVar('_Config', bound=config_lib.Experiment)


def wanted() -> bool:
  """Whether the environment variable is set; if so, notes it on stderr."""
  if os.environ.get(VARIABLE, '') in ('', '0'):
    return False
  print(
    f'{VARIABLE} is set: all sizes are reduced, and nothing is learned',
    file=sys.stderr,
  )
  return True


def shrink(config: _Config) -> _Config:
  """Returns a copy of `config` with every costly field reduced.

  The fields declare their limits (`config.setting(..., tiny=)`). The numbers of
  members, tasks and trajectories do not change, because they depend on each
  other.
  """
  # Imported here, so that a mistyped flag fails without waiting for it.
  from mbmpo_jax import envs

  now = config_lib.flatten(config)
  if envs.switches(config.env) and not config.env.switch_period:
    # 0 stands for the family's period, which may be longer than an episode.
    now['env.switch_period'] = None
  return config_lib.replaced(
    config,
    {
      name: _at_most(now[name], known['tiny'])
      for name, _, known in config_lib.leaves(type(config))
      if 'tiny' in known
    },
  )


def _at_most(value: Any, most: int) -> Any:
  """Limits a value, or each item of a tuple; `None` counts as no limit."""
  if isinstance(value, tuple):
    return tuple(min(size, most) for size in value)
  return most if value is None else min(value, most)
