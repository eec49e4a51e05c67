"""The 2-D point of the paper's section 6.3: a run of seconds."""

from mbmpo_jax import config as config_lib


def get_config() -> config_lib.Config:
  """Small models, horizon 30, the environment's own limit."""
  return config_lib.Config(
    env=config_lib.EnvConfig(name='point'),
    model=config_lib.ModelConfig(
      num_models=5, hidden_sizes=(128, 128), batch_size=100, max_epochs=50
    ),
    collect=config_lib.CollectConfig(
      num_trajectories=20, episode_length=30, buffer_capacity=10_000
    ),
    imagine=config_lib.ImagineConfig(
      tasks_per_model=4, rollouts_per_task=10, horizon=30
    ),
    meta=config_lib.MetaConfig(num_meta_steps=10),
    run=config_lib.RunConfig(num_iterations=10),
  )
