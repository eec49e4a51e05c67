"""SAC on Gymnasium's Hopper, to compare with `m3po/mbpo_hopper`."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.sac import config as sac


def get_config() -> sac.Config:
  """The authors' values, for episodes of 1,000 steps."""
  return sac.Config(
    env=config.Env(name='hopper', variant='gymnasium'),
    collect=off_policy_config.Collect(
      num_envs=1,
      steps_per_env=5000,
      episode_length=1000,
      buffer_capacity=100_000,
      start_steps=5000,
    ),
    run=off_policy_config.Run(num_iterations=20, eval_episodes=10),
  )
