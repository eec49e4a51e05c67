"""MB-MPC with random shooting on the 2-D point of section 6.3, in seconds."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc


def get_config() -> mb_mpc.Config:
  """Small models, 250 candidates of 5 steps; the paper has 1,000 of 10."""
  return mb_mpc.Config(
    env=config.Env(name='point'),
    model=config.Ensemble(
      num_models=5, hidden_sizes=(64, 64), batch_size=100, max_epochs=50
    ),
    collect=config.Collect(
      num_trajectories=10, episode_length=30, buffer_capacity=10_000
    ),
    planner=mb_mpc.Planner(num_candidates=250, horizon=5),
    run=config.Run(num_iterations=6),
  )
