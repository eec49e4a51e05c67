"""GSSM with PPO on humanoids of different masses and damping.

The sizes are those of the paper's table 4. Variants: `--config.model.kind=mean`
(MLSM-v0), `attentive` (MLSM-v1) or `dropout` (M-DPILCO), each with
`--config.policy.amortised=False`.
"""

from mbmpo_jax import config
from mbmpo_jax.algorithms.gssm import config as gssm


def get_config() -> gssm.Config:
  """An episode of 1,000 steps per iteration, a new task every 2 iterations."""
  return gssm.Config(
    env=config.Env(name='slim_humanoid'),
    collect=gssm.Collect(
      episode_length=1000, buffer_capacity=200_000, task_every=2
    ),
    model=gssm.Model(
      decoder_sizes=(400,) * 5, context_size=500, learning_rate=1e-3
    ),
    model_rollouts=gssm.ModelRollouts(horizon=1000, num_rollouts=2),
    improve=gssm.Improve(kind='ppo', num_updates=5),
    adaptation=gssm.Adaptation(num_updates=1, num_rollouts=1),
    run=config.Run(num_iterations=150, eval_every=10, eval_episodes=16),
  )
