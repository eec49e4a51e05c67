"""MB-MPC on the public benchmark: `mb_mpc/benchmark:cartpole`."""

from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc
from mbmpo_jax.training.launch import benchmark


def get_config(world: str = 'pendulum') -> mb_mpc.Config:
  """One of `benchmark.WORLDS` for 200,000 transitions, sized for a CPU."""
  made = benchmark.config('mb_mpc', world)
  assert isinstance(made, mb_mpc.Config)
  return made
