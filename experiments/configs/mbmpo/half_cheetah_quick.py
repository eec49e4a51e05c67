"""MB-MPO on HalfCheetah, short; a first run for new users."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """As `half_cheetah.py`, with 8 iterations instead of 25."""
  return mbmpo.Config(
    env=config.Env(name='half_cheetah'),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(200, 200, 200, 200),
      activation='swish',
      learning_rate=2e-3,
      max_gradient_steps=500,
      max_epochs=40,
      clip_margin=0.25,
    ),
    collect=mbmpo.Collect(num_trajectories=20, episode_length=200),
    model_rollouts=mbmpo.ModelRollouts(
      tasks_per_model=4, rollouts_per_task=12, horizon=200
    ),
    meta=mbmpo.Meta(num_meta_steps=15),
    trust_region=config.TrustRegion(max_kl=0.03),
    run=config.Run(num_iterations=8),
  )
