"""ME-TRPO on HalfCheetah, as MB-MPO's authors ran it for their figure 2."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms.me_trpo import config as me_trpo


def get_config() -> me_trpo.Config:
  """The authors' values, except for two that reduce the cost for two cores.

  A fit takes at most 1,000 gradient steps; the authors' 200 epochs of 40,000
  transitions are 12,800. Predictions are clipped to the range of the data in
  the buffer, widened by a quarter of it, as in MB-MPO's preset.
  """
  return me_trpo.Config(
    env=config.Env(name='half_cheetah'),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(512, 512),
      max_epochs=200,
      max_gradient_steps=1000,
      rolling_persistence=0.99,
      clip_margin=0.25,
    ),
    collect=model_based_config.Collect(num_trajectories=20, episode_length=200),
    policy=config.GaussianPolicy(hidden_sizes=(32, 32)),
    model_rollouts=me_trpo.ModelRollouts(num_rollouts=250, horizon=200),
    advantage=config.Advantage(discount=0.99),
    improve=me_trpo.Improve(stopping='fixed', num_steps=30),
    trust_region=config.TrustRegion(max_kl=0.01),
    run=config.Run(num_iterations=10),
  )
