"""MB-MPO on HalfCheetah, short; a first run for new users."""

from mbmpo_jax.algorithms.mbmpo import bodies
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """8 of the iterations of `half_cheetah.py`, with a longer first fit."""
  return bodies.config('half_cheetah', num_iterations=8, max_epochs=200)
