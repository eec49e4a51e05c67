"""L2A on HalfCheetah with a hidden direction: 20,000 steps."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.l2a import config as l2a
from mbmpo_jax.models import grbal_config


def get_config() -> l2a.Config:
  """The planner of `mb_mpc/half_cheetah`; two episodes of 1,000 steps at once.

  The direction changes every 300 steps. The network has 2x200 units, that of
  the authors 3x512. Evaluations also plan, so they have 4 episodes and run
  every second iteration.
  """
  return l2a.Config(
    env=config.Env(name='half_cheetah_fwd_bwd'),
    model=grbal_config.Ensemble(
      hidden_sizes=(200, 200),
      activation='tanh',
      batch_size=32,
      max_gradient_steps=2000,
      clip_margin=0.25,
    ),
    collect=config.Collect(
      num_trajectories=2, episode_length=1000, buffer_capacity=200_000
    ),
    adaptation=grbal_config.Adaptation(
      adapt_steps=16, predict_steps=16, inner_lr=0.1
    ),
    planner=l2a.Planner(
      kind='cem',
      num_candidates=200,
      horizon=15,
      num_elites=20,
      num_iterations=4,
    ),
    run=config.Run(num_iterations=10, eval_every=2, eval_episodes=4),
  )
