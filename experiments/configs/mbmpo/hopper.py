"""MB-MPO on Hopper, 100,000 transitions, sized for a CPU."""

from mbmpo_jax.algorithms.mbmpo import bodies
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """As `half_cheetah.py`, with the settings for bodies that stand."""
  return bodies.config('hopper', stands=True)
