"""PR2 reacher, sized for a CPU."""

from mbmpo_jax import config as config_lib


def get_config() -> config_lib.Config:
  """The paper's values, but for epochs, clipping and imagined rollouts."""
  return config_lib.Config(
    env=config_lib.EnvConfig(name='pr2_reacher'),
    model=config_lib.ModelConfig(
      hidden_sizes=(512, 512), max_epochs=20, clip_margin=0.25
    ),
    imagine=config_lib.ImagineConfig(rollouts_per_task=12),
    run=config_lib.RunConfig(num_iterations=6),
  )
