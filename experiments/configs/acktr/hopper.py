"""ACKTR on Hopper, 200 steps per episode."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms.acktr import config as acktr


def get_config() -> acktr.Config:
  """Episodes of 200 steps; 300,000 transitions in all."""
  return acktr.Config(
    env=config.Env(name='hopper'),
    collect=on_policy_config.Collect(
      num_envs=20, steps_per_env=200, episode_length=200
    ),
    value_step=acktr.ValueKfac(num_steps=10),
    run=config.Run(num_iterations=75, eval_every=5),
  )
