"""MB-MPO on Hopper, 100,000 transitions, sized for a CPU."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """Models, fits and meta-steps of `half_cheetah.py`; 20 rollouts per task.

  Imagined rollouts that terminate early restart as new episodes. Otherwise a
  policy that falls after 20 steps would leave nine tenths of them unused. The
  standard deviation of the policy stays above 0.5, because with a small one the
  policy learned to stand still, which already earns 200 (docs/algorithm.md).
  """
  return mbmpo.Config(
    env=config.Env(name='hopper'),
    policy=config.GaussianPolicy(min_std=0.5),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(200, 200, 200, 200),
      activation='swish',
      learning_rate=2e-3,
      max_epochs=40,
      max_gradient_steps=500,
      clip_margin=0.25,
    ),
    collect=mbmpo.Collect(num_trajectories=20, episode_length=200),
    model_rollouts=mbmpo.ModelRollouts(
      tasks_per_model=4, rollouts_per_task=20, horizon=200, restart=True
    ),
    meta=mbmpo.Meta(num_meta_steps=15),
    trust_region=config.TrustRegion(max_kl=0.03),
    run=config.Run(num_iterations=25),
  )
