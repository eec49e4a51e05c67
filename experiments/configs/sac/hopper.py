"""SAC on Hopper; an episode ends when the hopper falls."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.sac import config as sac


def get_config() -> sac.Config:
  """The authors' values, for episodes of 200 steps."""
  return sac.Config(
    env=config.Env(name='hopper'),
    collect=off_policy_config.Collect(
      num_envs=1,
      steps_per_env=5000,
      episode_length=200,
      buffer_capacity=100_000,
      start_steps=2000,
    ),
    run=off_policy_config.Run(num_iterations=20, eval_episodes=10),
  )
