"""MB-MPO on the 2-D point of the paper's section 6.3; runs in seconds."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """Small models and a horizon of 30 steps, the environment's limit."""
  return mbmpo.Config(
    env=config.Env(name='point'),
    model=config.Ensemble(
      num_models=5, hidden_sizes=(128, 128), batch_size=100, max_epochs=50
    ),
    collect=mbmpo.Collect(
      num_trajectories=20, episode_length=30, buffer_capacity=10_000
    ),
    model_rollouts=mbmpo.ModelRollouts(
      tasks_per_model=4, rollouts_per_task=10, horizon=30
    ),
    meta=mbmpo.Meta(num_meta_steps=10),
    run=config.Run(num_iterations=10),
  )
