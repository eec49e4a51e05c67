"""GSSM with BPTT on cart-poles of different masses; sizes of table 4.

Variants: `--config.model.kind=mean` (MLSM-v0), `attentive` (MLSM-v1) or
`dropout` (M-DPILCO), each with `--config.policy.amortised=False`.
"""

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms.gssm import config as gssm


def get_config() -> gssm.Config:
  """60 iterations, each with a new task and three episodes of 25 steps.

  One of the three episodes has uniform actions.
  """
  return gssm.Config(
    env=config.Env(name='cartpole_swingup_masses'),
    collect=gssm.Collect(
      num_trajectories=2,
      random_trajectories=1,
      episode_length=25,
      buffer_capacity=10_000,
      task_every=1,
    ),
    model=gssm.Model(
      decoder_sizes=(200, 200), context_size=50, learning_rate=2e-3
    ),
    # Scales of x, x', sin theta, cos theta, theta'.
    policy=gssm.Policy(feature_scales=(1.0, 2.0, 0.67, 0.67, 3.0)),
    model_rollouts=gssm.ModelRollouts(horizon=25),
    improve=gssm.Improve(
      kind='bptt',
      num_updates=100,
      data='all',
      num_learners=2,
      restart_every=5,
    ),
    advantage=on_policy_config.Advantage(discount=1.0),
    learn=gssm.Learn(learning_rate=1e-2),
    adaptation=gssm.Adaptation(num_updates=5, num_rollouts=1),
    run=config.Run(num_iterations=60, eval_every=5, eval_episodes=50),
  )
