"""MB-MPO on Ant at the paper's scale; has not been run to the end."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The paper's values, except for epochs, clipping and imagined rollouts.

  Imagined rollouts that terminate early restart as new episodes. Otherwise a
  policy that falls after 20 steps would leave nine tenths of them unused.
  """
  return mbmpo.Config(
    env=config.Env(name='ant'),
    model=config.Ensemble(
      hidden_sizes=(512, 512, 512), max_epochs=40, clip_margin=0.25
    ),
    model_rollouts=mbmpo.ModelRollouts(rollouts_per_task=12, restart=True),
    run=config.Run(num_iterations=50),
  )
