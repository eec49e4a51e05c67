"""L2A on acrobots of different masses, with discrete torques: 60 episodes."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.l2a import config as l2a
from mbmpo_jax.models import grbal_config


def get_config() -> l2a.Config:
  """CEM over categorical distributions; the horizon must reach the goal.

  The reward is -1 per step until the goal, so candidate plans differ only if
  some reach the goal within the horizon, 30 of 200 steps. Each iteration
  collects one episode, as in the GSSM preset.
  """
  return l2a.Config(
    env=config.Env(name='acrobot', variant='terminating'),
    model=grbal_config.Ensemble(
      hidden_sizes=(200, 200),
      activation='tanh',
      batch_size=32,
      validation_fraction=0.2,
      max_gradient_steps=600,
    ),
    collect=config.Collect(
      num_trajectories=1, episode_length=200, buffer_capacity=60_000
    ),
    adaptation=grbal_config.Adaptation(
      adapt_steps=8, predict_steps=8, inner_lr=0.05
    ),
    planner=l2a.Planner(
      kind='cem',
      num_candidates=200,
      horizon=30,
      num_elites=20,
      num_iterations=3,
      init_std=1.0,
      min_std=0.1,
    ),
    run=config.Run(num_iterations=60, eval_every=10, eval_episodes=10),
  )
