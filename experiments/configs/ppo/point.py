"""PPO on the 2-D point of MB-MPO's section 6.3."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms.ppo import config as ppo


def get_config() -> ppo.Config:
  """Episodes of 30 steps; 60,000 transitions in all."""
  return ppo.Config(
    env=config.Env(name='point'),
    collect=on_policy_config.Collect(
      num_envs=20, steps_per_env=30, episode_length=30
    ),
    learn=ppo.Learn(num_epochs=10, num_minibatches=4, learning_rate=1e-3),
    run=config.Run(num_iterations=100, eval_every=5),
  )
