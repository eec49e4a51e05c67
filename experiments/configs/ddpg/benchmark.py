"""DDPG on an environment of the public benchmark: `ddpg/benchmark:cartpole`."""

from mbmpo_jax.algorithms.ddpg import config as ddpg
from mbmpo_jax.training.launch import benchmark


def get_config(world: str = 'pendulum') -> ddpg.Config:
  """One of `benchmark.WORLDS` for 200,000 transitions, sized for a CPU."""
  made = benchmark.config('ddpg', world)
  assert isinstance(made, ddpg.Config)
  return made
