"""ME-TRPO on the 2-D point of MB-MPO's section 6.3; runs in seconds."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms.me_trpo import config as me_trpo


def get_config() -> me_trpo.Config:
  """Small models, horizon 30, the number of steps of MB-MPO's authors."""
  return me_trpo.Config(
    env=config.Env(name='point'),
    model=config.Ensemble(
      num_models=5, hidden_sizes=(128, 128), batch_size=100, max_epochs=50
    ),
    collect=model_based_config.Collect(
      num_trajectories=20, episode_length=30, buffer_capacity=10_000
    ),
    model_rollouts=me_trpo.ModelRollouts(num_rollouts=200, horizon=30),
    improve=me_trpo.Improve(num_steps=30),
    run=config.Run(num_iterations=8),
  )
