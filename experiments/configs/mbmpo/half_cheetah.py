"""HalfCheetah at the paper's scale, with fewer epochs: bearable on a CPU."""

from mbmpo_jax import config as config_lib


def get_config() -> config_lib.Config:
  """The paper's values, but for two.

  At most 40 epochs per fit, where the paper has 500: bearable on a CPU. And
  predictions are clipped to what the buffer has seen, widened by a quarter: one
  diverging rollout would otherwise drown the advantages of its task.
  """
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
    meta=config_lib.MetaConfig(num_meta_steps=30, max_kl=0.01),
    run=config_lib.RunConfig(num_iterations=50),
  )
