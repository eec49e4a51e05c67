"""MB-MPO on the PR2 reacher, sized for a CPU."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The paper's values, except for epochs, clipping and imagined rollouts."""
  return mbmpo.Config(
    env=config.Env(name='pr2_reacher'),
    model=config.Ensemble(
      hidden_sizes=(512, 512), max_epochs=20, clip_margin=0.25
    ),
    model_rollouts=mbmpo.ModelRollouts(rollouts_per_task=12),
    run=config.Run(num_iterations=6),
  )
