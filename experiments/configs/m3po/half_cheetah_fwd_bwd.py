"""M3PO on HalfCheetah with a hidden direction: 200,000 steps."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.m3po import config as m3po


def get_config() -> m3po.Config:
  """The defaults; the direction changes every 300 of 1,000 steps."""
  return m3po.Config(
    env=config.Env(name='half_cheetah_fwd_bwd'),
    collect=m3po.Collect(
      num_envs=1,
      steps_per_env=1000,
      episode_length=1000,
      buffer_capacity=200_000,
      start_steps=1000,
    ),
    run=off_policy_config.Run(
      num_iterations=200, eval_every=5, eval_episodes=10, checkpoint_every=5
    ),
  )
