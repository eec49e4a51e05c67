"""TRPO on Hopper, 200 steps per episode."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms.trpo import config as trpo


def get_config() -> trpo.Config:
  """Episodes of 200 steps; 300,000 transitions in all."""
  return trpo.Config(
    env=config.Env(name='hopper'),
    collect=on_policy_config.Collect(
      num_envs=20, steps_per_env=200, episode_length=200
    ),
    value=trpo.Value(num_epochs=10, num_minibatches=16),
    trust_region=config.TrustRegion(max_kl=0.01, damping=0.1),
    run=config.Run(num_iterations=75, eval_every=5),
  )
