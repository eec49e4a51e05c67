"""PEARL on the point with a hidden direction; runs in minutes."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.pearl import config as pearl
from mbmpo_jax.algorithms.sac import config as sac


def get_config() -> pearl.Config:
  """Sizes of `m3po/point_direc`; docs/pearl.md explains the 4 transitions."""
  return pearl.Config(
    env=config.Env(name='point_direc'),
    collect=off_policy_config.Collect(
      num_envs=1,
      steps_per_env=240,
      episode_length=60,
      buffer_capacity=10_000,
      start_steps=480,
    ),
    context=pearl.Context(length=4, hidden_sizes=(64, 64), learning_rate=1e-3),
    policy=sac.Policy(hidden_sizes=(64, 64), learning_rate=1e-3),
    critic=off_policy_config.Critic(hidden_sizes=(64, 64), learning_rate=1e-3),
    temperature=sac.Temperature(learning_rate=1e-3, initial=0.1),
    learn=off_policy_config.Learn(num_updates=5, batch_size=128, discount=0.9),
    run=off_policy_config.Run(num_iterations=15, chunk=120),
  )
