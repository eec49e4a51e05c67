"""For `experiments/offline.py`: logs of worlds of a few numbers, in minutes."""

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.algorithms.mbmpo import offline


def get_config() -> mbmpo.Config:
  """Imagined episodes of 200 steps; the log says what world it is of."""
  return offline.quick()
