"""HalfCheetah made small: smaller models, fewer epochs and rollouts."""

from mbmpo_jax import config as config_lib


def get_config() -> config_lib.Config:
  """Half of the paper's imagined data on models of 0.6 times its size.

  As in `half_cheetah.py`, the trust region is twice the paper's, and
  predictions are clipped to what has been seen.
  """
  return config_lib.Config(
    env=config_lib.EnvConfig(name='half_cheetah'),
    model=config_lib.ModelConfig(
      num_models=5,
      hidden_sizes=(400, 400),
      max_epochs=30,
      clip_margin=0.25,
    ),
    collect=config_lib.CollectConfig(num_trajectories=20, episode_length=200),
    imagine=config_lib.ImagineConfig(
      tasks_per_model=4, rollouts_per_task=12, horizon=200
    ),
    meta=config_lib.MetaConfig(num_meta_steps=30, max_kl=0.02),
    run=config_lib.RunConfig(num_iterations=10),
  )
