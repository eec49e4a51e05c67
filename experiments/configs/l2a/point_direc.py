"""L2A on the point with a hidden direction; runs in minutes."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.l2a import config as l2a
from mbmpo_jax.models import grbal_config


def get_config() -> l2a.Config:
  """4 episodes of 60 steps per iteration, as in `m3po/point_direc`; 15 of them.

  The direction changes every 20 steps, so few steps must suffice to infer it.
  The planner is CEM, because the best of 200 random sequences of 5 steps moves
  at only 0.7 of the full speed.
  """
  return l2a.Config(
    env=config.Env(name='point_direc'),
    model=grbal_config.Ensemble(
      hidden_sizes=(64, 64),
      activation='tanh',
      batch_size=32,
      max_gradient_steps=1000,
    ),
    collect=config.Collect(
      num_trajectories=4, episode_length=60, buffer_capacity=10_000
    ),
    adaptation=grbal_config.Adaptation(
      adapt_steps=4, predict_steps=4, inner_lr=0.3
    ),
    planner=l2a.Planner(
      kind='cem',
      num_candidates=60,
      horizon=5,
      num_elites=10,
      num_iterations=4,
    ),
    run=config.Run(num_iterations=15),
  )
