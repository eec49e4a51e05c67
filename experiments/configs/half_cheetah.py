"""HalfCheetah at the paper's scale, with fewer epochs: bearable on a CPU."""

from mbmpo_jax import config as config_lib


def get_config() -> config_lib.Config:
  """The paper's values but for 50 epochs per fit, where it has 500."""
  return config_lib.Config(
    env=config_lib.EnvConfig(name='half_cheetah'),
    model=config_lib.ModelConfig(
      num_models=5,
      hidden_sizes=(512, 512),
      max_epochs=40,
      clip_margin=0.25,
    ),
    collect=config_lib.CollectConfig(num_trajectories=20, episode_length=200),
    imagine=config_lib.ImagineConfig(
      tasks_per_model=4, rollouts_per_task=25, horizon=200
    ),
    meta=config_lib.MetaConfig(num_meta_steps=30, max_kl=0.02),
    run=config_lib.RunConfig(num_iterations=50),
  )
