"""TRPO on an environment of the public benchmark: `trpo/benchmark:cartpole`."""

from mbmpo_jax.algorithms.trpo import config as trpo
from mbmpo_jax.training.launch import benchmark


def get_config(world: str = 'pendulum') -> trpo.Config:
  """One of `benchmark.WORLDS` for 200,000 transitions, sized for a CPU."""
  made = benchmark.config('trpo', world)
  assert isinstance(made, trpo.Config)
  return made
