"""For `experiments/external.py`: low-dimensional environments, in minutes."""

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.algorithms.mbmpo import quick


def get_config() -> mbmpo.Config:
  """Episodes of 200 steps; `--gym` sets the environment, not `env`."""
  return quick.quick(transitions=10_000, episode_length=200)
