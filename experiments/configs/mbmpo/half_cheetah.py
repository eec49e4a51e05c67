"""HalfCheetah at the paper's scale, with fewer epochs: bearable on a CPU."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The paper's values, but for two.

  At most 40 epochs per fit, where the paper has 500: bearable on a CPU. And
  predictions are clipped to what the buffer has seen, widened by a quarter: one
  diverging rollout would otherwise drown the advantages of its task.
  """
  return mbmpo.Config(
    env=config.Env(name='half_cheetah'),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(512, 512),
      max_epochs=40,
      clip_margin=0.25,
    ),
    collect=mbmpo.Collect(num_trajectories=20, episode_length=200),
    model_rollouts=mbmpo.ModelRollouts(
      tasks_per_model=4, rollouts_per_task=25, horizon=200
    ),
    meta=mbmpo.Meta(num_meta_steps=30),
    trust_region=config.TrustRegion(max_kl=0.01),
    run=config.Run(num_iterations=50),
  )
