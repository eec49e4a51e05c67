"""MB-MPO on HalfCheetah, 100,000 transitions, sized for a CPU."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The paper's values, except for models, fits, meta-steps and rollouts.

  Ensemble members have four layers of 200 units and swish, and learn at a rate
  of 0.002 (`docs/algorithm.md` compares them with shallower ones). A fit takes
  500 gradient steps, whatever the size of the buffer. There are 12 rollouts per
  task instead of 25, and 15 meta-steps with a KL bound of 0.03 instead of 30
  with 0.01. With the paper's numbers, imagined returns were 1.7 times the real
  ones in one seed. Predictions are clipped to the range of the data in the
  buffer, widened by a quarter of it; otherwise a single diverging rollout would
  dominate the advantages of its task.
  """
  return mbmpo.Config(
    env=config.Env(name='half_cheetah'),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(200, 200, 200, 200),
      activation='swish',
      learning_rate=2e-3,
      max_epochs=40,
      max_gradient_steps=500,
      clip_margin=0.25,
    ),
    collect=mbmpo.Collect(num_trajectories=20, episode_length=200),
    model_rollouts=mbmpo.ModelRollouts(
      tasks_per_model=4, rollouts_per_task=12, horizon=200
    ),
    meta=mbmpo.Meta(num_meta_steps=15),
    trust_region=config.TrustRegion(max_kl=0.03),
    run=config.Run(num_iterations=25),
  )
