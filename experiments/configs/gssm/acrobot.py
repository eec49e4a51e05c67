"""GSSM with PPO on acrobots of different masses; sizes of the paper's table 4.

Variants: `--config.model.kind=mean` (MLSM-v0), `attentive` (MLSM-v1) or
`dropout` (M-DPILCO), each with `--config.policy.amortised=False`.
"""

from mbmpo_jax import config
from mbmpo_jax.algorithms.gssm import config as gssm


def get_config() -> gssm.Config:
  """300 iterations of two trajectories of 200 steps, a new task every 3.

  One of the two has uniform actions. Episodes end at the goal, because the
  reward is 0 from there on. Otherwise the models would have to learn that the
  acrobot stays at the goal.
  """
  return gssm.Config(
    env=config.Env(name='acrobot', variant='terminating'),
    collect=gssm.Collect(
      random_trajectories=1,
      episode_length=200,
      buffer_capacity=120_000,
      task_every=3,
    ),
    model=gssm.Model(
      decoder_sizes=(400,) * 5,
      target='next',
      context_size=50,
      learning_rate=2e-3,
    ),
    model_rollouts=gssm.ModelRollouts(horizon=200),
    improve=gssm.Improve(kind='ppo', num_updates=5),
    adaptation=gssm.Adaptation(num_updates=5, num_rollouts=1),
    run=config.Run(num_iterations=300, eval_every=10, eval_episodes=35),
  )
