"""MB-MPO on the public benchmark: `mbmpo/benchmark:cartpole`."""

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.training.launch import benchmark


def get_config(world: str = 'pendulum') -> mbmpo.Config:
  """One of `benchmark.WORLDS` for 200,000 transitions, sized for a CPU."""
  made = benchmark.config('mbmpo', world)
  assert isinstance(made, mbmpo.Config)
  return made
