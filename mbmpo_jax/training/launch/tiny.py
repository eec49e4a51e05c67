"""Any experiment made small enough to try its command in seconds.

`MBMPO_JAX_TINY=1` in the environment has the programs of `experiments/` and
`benchmarks/` run at such sizes, and say so. Nothing is learned then: it is how
the tests execute every command of the documentation.
"""

import os
import sys

from mbmpo_jax import config as config_lib

VARIABLE = 'MBMPO_JAX_TINY'

# The most that is left of a field. Numbers of members, tasks and trajectories
# stay, as they depend on each other.
_MOST = {
  'policy.hidden_sizes': 8,
  'model.hidden_sizes': 16,
  'model.batch_size': 32,
  'model.max_epochs': 2,
  'collect.episode_length': 5,
  'collect.buffer_capacity': 1_000,
  'imagine.rollouts_per_task': 2,
  'imagine.horizon': 5,
  'meta.num_meta_steps': 1,
  'run.num_iterations': 2,
  'run.eval_episodes': 2,
}


def wanted() -> bool:
  """Whether the environment variable is set; says so on stderr."""
  if os.environ.get(VARIABLE, '') in ('', '0'):
    return False
  print(f'{VARIABLE} is set: a smoke test, far too small', file=sys.stderr)
  return True


def shrink(config: config_lib.Config) -> config_lib.Config:
  """A copy in which everything that costs time is cut to a few."""
  return config_lib.replaced(
    config,
    {
      name: _at_most(value, _MOST[name])
      for name, value in config_lib.flatten(config).items()
      if name in _MOST
    },
  )


def _at_most(value: int | tuple[int, ...], most: int) -> int | tuple[int, ...]:
  if isinstance(value, tuple):
    return tuple(min(size, most) for size in value)
  return min(value, most)
