"""MB-MPO on Walker2d, 100,000 transitions, sized for a CPU."""

from mbmpo_jax.algorithms.mbmpo import bodies
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The settings of `hopper.py`."""
  return bodies.config('walker2d', stands=True)
