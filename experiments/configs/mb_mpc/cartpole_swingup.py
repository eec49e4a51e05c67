"""MB-MPC with CEM on the cart-pole swing-up: 40 episodes, 1,000 transitions."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc


def get_config() -> mb_mpc.Config:
  """CEM at the usual sizes: 500 candidates, 50 elites, horizon 25.

  Ensemble members have 2x200 units; a plan of 5 rounds then takes 5 GFLOP. Each
  iteration collects two episodes. With so little data a validation set is not
  informative, so a fit takes a fixed number of small minibatches instead of
  stopping early.
  """
  return mb_mpc.Config(
    env=config.Env(name='cartpole_swingup'),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(200, 200),
      batch_size=32,
      max_epochs=60,
      max_gradient_steps=600,
      early_stopping=False,
      validation_fraction=0.1,
    ),
    collect=config.Collect(
      num_trajectories=2, episode_length=25, buffer_capacity=2_000
    ),
    planner=mb_mpc.Planner(
      kind='cem', num_candidates=500, horizon=25, num_elites=50
    ),
    run=config.Run(num_iterations=20, eval_every=5, eval_episodes=4),
  )
