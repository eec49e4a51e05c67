"""Walker2d at the paper's scale; not yet run to the end."""

from mbmpo_jax import config as config_lib


def get_config() -> config_lib.Config:
  """The paper's values, but for epochs, clipping and imagined rollouts.

  Imagined rollouts that end early go on as new episodes: a policy that falls
  after 20 steps would leave nine tenths of them unused.
  """
  return config_lib.Config(
    env=config_lib.EnvConfig(name='walker2d'),
    model=config_lib.ModelConfig(
      hidden_sizes=(512, 512, 512), max_epochs=40, clip_margin=0.25
    ),
    imagine=config_lib.ImagineConfig(rollouts_per_task=12, restart=True),
    run=config_lib.RunConfig(num_iterations=50),
  )
