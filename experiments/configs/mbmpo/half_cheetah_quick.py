"""MB-MPO on HalfCheetah, short; a first run for new users."""

from mbmpo_jax.algorithms.mbmpo import bodies
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The first 8 of the iterations of `half_cheetah.py`."""
  return bodies.config('half_cheetah', num_iterations=8)
