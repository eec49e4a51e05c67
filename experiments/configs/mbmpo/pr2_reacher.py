"""MB-MPO on the PR2 reacher, 24,000 transitions, sized for a CPU."""

from mbmpo_jax.algorithms.mbmpo import bodies
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The settings of `half_cheetah.py`, for 6 iterations."""
  return bodies.config('pr2_reacher', num_iterations=6)
