"""DDPG on the 2-D point of MB-MPO's section 6.3; runs in seconds."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.ddpg import config as ddpg


def get_config() -> ddpg.Config:
  """Small networks; episodes of 30 steps, the environment's limit."""
  return ddpg.Config(
    env=config.Env(name='point'),
    collect=off_policy_config.Collect(
      num_envs=1,
      steps_per_env=500,
      episode_length=30,
      buffer_capacity=10_000,
      start_steps=300,
    ),
    policy=ddpg.Policy(
      hidden_sizes=(64, 64), learning_rate=1e-3, exploration_std=0.2
    ),
    critic=off_policy_config.Critic(hidden_sizes=(64, 64), learning_rate=1e-3),
    learn=ddpg.Learn(batch_size=64, discount=0.95),
    run=off_policy_config.Run(num_iterations=16),
  )
