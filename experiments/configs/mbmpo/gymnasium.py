"""For `experiments/external.py`: worlds of a few numbers, in minutes."""

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.algorithms.mbmpo import quick


def get_config() -> mbmpo.Config:
  """Episodes of 200 steps; the world is said by `--gym`, not by `env`."""
  return quick.quick(transitions=10_000, episode_length=200)
