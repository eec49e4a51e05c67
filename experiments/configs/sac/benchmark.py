"""SAC on an environment of the public benchmark: `sac/benchmark:cartpole`."""

from mbmpo_jax.algorithms.sac import config as sac
from mbmpo_jax.training.launch import benchmark


def get_config(world: str = 'pendulum') -> sac.Config:
  """One of `benchmark.WORLDS` for 200,000 transitions, sized for a CPU."""
  made = benchmark.config('sac', world)
  assert isinstance(made, sac.Config)
  return made
