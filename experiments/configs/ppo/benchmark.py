"""PPO on an environment of the public benchmark: `ppo/benchmark:cartpole`."""

from mbmpo_jax.algorithms.ppo import config as ppo
from mbmpo_jax.training.launch import benchmark


def get_config(world: str = 'pendulum') -> ppo.Config:
  """One of `benchmark.WORLDS` for 200,000 transitions, sized for a CPU."""
  made = benchmark.config('ppo', world)
  assert isinstance(made, ppo.Config)
  return made
