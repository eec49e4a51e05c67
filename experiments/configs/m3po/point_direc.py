"""M3PO on the point with a hidden direction; runs in minutes."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.m3po import config as m3po
from mbmpo_jax.algorithms.sac import config as sac
from mbmpo_jax.models import recurrent_config


def get_config() -> m3po.Config:
  """Small networks; the direction changes every 20 of an episode's 60 steps."""
  return m3po.Config(
    env=config.Env(name='point_direc'),
    collect=m3po.Collect(
      num_envs=1,
      steps_per_env=240,
      episode_length=60,
      buffer_capacity=10_000,
      start_steps=480,
    ),
    history=m3po.History(length=10, units=16),
    model=recurrent_config.Ensemble(
      hidden_sizes=(64, 64), batch_size=128, max_gradient_steps=500
    ),
    model_rollouts=m3po.ModelRollouts(num_rollouts=100, buffer_capacity=20_000),
    policy=m3po.Policy(hidden_sizes=(64, 64), learning_rate=1e-3),
    critic=m3po.Critic(hidden_sizes=(64, 64), learning_rate=1e-3),
    temperature=sac.Temperature(learning_rate=1e-3, initial=0.1),
    learn=m3po.Learn(num_updates=5, batch_size=128, discount=0.9),
    run=off_policy_config.Run(num_iterations=30, chunk=120),
  )
