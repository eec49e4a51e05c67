"""For `experiments/offline.py`: logs of low-dimensional environments."""

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.algorithms.mbmpo import offline


def get_config() -> mbmpo.Config:
  """Imagined episodes of 200 steps; the log determines the environment."""
  return offline.quick()
