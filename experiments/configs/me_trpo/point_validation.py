"""ME-TRPO on the 2-D point, stopped by validation; runs in seconds."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms.me_trpo import config as me_trpo


def get_config() -> me_trpo.Config:
  """As `point.py`, but validation ends policy steps (Kurutach et al. 2018)."""
  return me_trpo.Config(
    env=config.Env(name='point'),
    model=config.Ensemble(
      num_models=5, hidden_sizes=(128, 128), batch_size=100, max_epochs=50
    ),
    collect=model_based_config.Collect(
      num_trajectories=20, episode_length=30, buffer_capacity=10_000
    ),
    model_rollouts=me_trpo.ModelRollouts(num_rollouts=200, horizon=30),
    improve=me_trpo.Improve(
      stopping='validation',
      num_steps=100,
      validate_every=5,
      patience=25,
      validation_rollouts=20,
    ),
    run=config.Run(num_iterations=8),
  )
