"""L2A on the swing-up of cart-poles of different masses: 100 episodes."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.l2a import config as l2a
from mbmpo_jax.models import grbal_config


def get_config() -> l2a.Config:
  """The planner of `mb_mpc/cartpole_swingup` with a quarter of its predictions.

  An episode has 25 steps; the model adapts to 8 transitions and is trained to
  predict 4. With so little data a validation set is not informative, so a fit
  takes a fixed number of small minibatches instead of stopping early.
  """
  return l2a.Config(
    env=config.Env(name='cartpole_swingup_masses'),
    model=grbal_config.Ensemble(
      hidden_sizes=(200, 200),
      activation='tanh',
      batch_size=32,
      max_epochs=60,
      max_gradient_steps=600,
      early_stopping=False,
    ),
    collect=config.Collect(
      num_trajectories=2, episode_length=25, buffer_capacity=10_000
    ),
    adaptation=grbal_config.Adaptation(
      adapt_steps=8, predict_steps=4, inner_lr=0.05
    ),
    planner=l2a.Planner(
      kind='cem',
      num_candidates=150,
      horizon=25,
      num_elites=15,
      num_iterations=4,
    ),
    run=config.Run(num_iterations=50, eval_every=10, eval_episodes=4),
  )
