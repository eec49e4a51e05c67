"""DDPG on HalfCheetah: 100,000 transitions, an update after each."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.ddpg import config as ddpg


def get_config() -> ddpg.Config:
  """Networks, rates and noise of TD3's authors, for episodes of 200 steps.

  DDPG's authors use a learning rate of 1e-4 for the policy, 1e-3 with weight
  decay for the critics, target updates by 0.001, minibatches of 64 and
  correlated noise.
  """
  return ddpg.Config(
    env=config.Env(name='half_cheetah'),
    collect=off_policy_config.Collect(
      num_envs=1,
      steps_per_env=5000,
      episode_length=200,
      buffer_capacity=100_000,
      start_steps=2000,
    ),
    run=off_policy_config.Run(num_iterations=20, eval_episodes=10),
  )
