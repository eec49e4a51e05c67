"""Any experiment made small enough to try its command in seconds.

`MBMPO_JAX_TINY=1` in the environment has the programs of `experiments/` and
`benchmarks/` run at such sizes, and say so. Nothing is learned then: it is how
the tests execute every command of the documentation.
"""

import os
import sys
from typing import Any, TypeVar

from mbmpo_jax import config as config_lib

VARIABLE = 'MBMPO_JAX_TINY'

_Config = TypeVar('_Config', bound=config_lib.Experiment)


def wanted() -> bool:
  """Whether the environment variable is set; says so on stderr."""
  if os.environ.get(VARIABLE, '') in ('', '0'):
    return False
  print(f'{VARIABLE} is set: a smoke test, far too small', file=sys.stderr)
  return True


def shrink(config: _Config) -> _Config:
  """A copy in which everything that costs time is cut to a few.

  The fields say how far (`config.setting(..., tiny=)`). Numbers of members,
  tasks and trajectories stay, as they depend on each other.
  """
  now = config_lib.flatten(config)
  return config_lib.replaced(
    config,
    {
      name: _at_most(now[name], known['tiny'])
      for name, _, known in config_lib.leaves(type(config))
      if 'tiny' in known
    },
  )


def _at_most(value: Any, most: int) -> Any:
  """`None` is no limit."""
  if isinstance(value, tuple):
    return tuple(min(size, most) for size in value)
  return most if value is None else min(value, most)
