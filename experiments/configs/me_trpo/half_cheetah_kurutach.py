"""ME-TRPO on HalfCheetah as in Kurutach et al. 2018: stopped by validation."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms.me_trpo import config as me_trpo


def get_config() -> me_trpo.Config:
  """Episodes of 100 steps without discount; validation ends the policy steps.

  The policy is validated in each model every 5 steps. Policy steps end 25 steps
  after the best policy, or after 400. Differences in the authors' runs: members
  of 1,024 units, reinitialised every five iterations; noise on the parameters
  of the policy that collects data; its standard deviation reset to 1 in each
  iteration.
  """
  return me_trpo.Config(
    env=config.Env(name='half_cheetah'),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(512, 512),
      batch_size=1000,
      validation_fraction=0.33,
      max_epochs=2000,
      max_gradient_steps=1000,
      rolling_persistence=0.99,
      clip_margin=0.25,
    ),
    collect=model_based_config.Collect(num_trajectories=30, episode_length=100),
    policy=config.GaussianPolicy(hidden_sizes=(32, 32)),
    model_rollouts=me_trpo.ModelRollouts(num_rollouts=500, horizon=100),
    advantage=config.Advantage(discount=1.0),
    improve=me_trpo.Improve(
      stopping='validation',
      num_steps=400,
      validate_every=5,
      patience=25,
      worsened_fraction=0.3,
      validation_rollouts=50,
    ),
    trust_region=config.TrustRegion(max_kl=0.01),
    run=config.Run(num_iterations=14),
  )
