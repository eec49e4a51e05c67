"""MB-MPO on Swimmer, 24,000 transitions, sized for a CPU."""

from mbmpo_jax.algorithms.mbmpo import bodies
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The settings of `half_cheetah.py`, for 6 iterations."""
  return bodies.config('swimmer', num_iterations=6)
