"""Hopper, sized for a CPU."""

from mbmpo_jax import config as config_lib


def get_config() -> config_lib.Config:
  """The paper's values, but for epochs, clipping and imagined rollouts.

  Imagined rollouts that end early go on as new episodes: a policy that falls
  after 20 steps would leave nine tenths of them unused. The standard deviation
  stays above 0.4: where it is free it shrinks to 0.25 within 7 iterations, and
  the policy settles for a long dive before it has found out how to stay up.
  """
  return config_lib.Config(
    env=config_lib.EnvConfig(name='hopper'),
    policy=config_lib.PolicyConfig(min_std=0.4),
    model=config_lib.ModelConfig(
      hidden_sizes=(512, 512), max_epochs=15, clip_margin=0.25
    ),
    imagine=config_lib.ImagineConfig(rollouts_per_task=12, restart=True),
    run=config_lib.RunConfig(num_iterations=25),
  )
