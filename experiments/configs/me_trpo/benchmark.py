"""ME-TRPO on the public benchmark: `me_trpo/benchmark:cartpole`."""

from mbmpo_jax.algorithms.me_trpo import config as me_trpo
from mbmpo_jax.training.launch import benchmark


def get_config(world: str = 'pendulum') -> me_trpo.Config:
  """One of `benchmark.WORLDS` for 200,000 transitions, sized for a CPU."""
  made = benchmark.config('me_trpo', world)
  assert isinstance(made, me_trpo.Config)
  return made
