"""MB-MPO on HalfCheetah, 100,000 transitions, sized for a CPU."""

from mbmpo_jax.algorithms.mbmpo import bodies
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """25 iterations; `bodies.py` says how the values differ from the paper's."""
  return bodies.config('half_cheetah')
