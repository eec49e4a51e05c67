"""PPO on cart-poles of different masses: DR-PPO of GSSM's paper.

Every episode has a new task, which the policy does not observe.
"""

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms.ppo import config as ppo


def get_config() -> ppo.Config:
  """4,000 episodes of 25 steps, 40 of them per iteration."""
  return ppo.Config(
    env=config.Env(name='cartpole_swingup_masses'),
    collect=on_policy_config.Collect(
      num_envs=40, steps_per_env=25, episode_length=25
    ),
    policy=config.GaussianPolicy(hidden_sizes=(128,)),
    value=on_policy_config.Value(hidden_sizes=(128,)),
    learn=ppo.Learn(
      num_epochs=8, num_minibatches=4, learning_rate=5e-4, max_grad_norm=0.5
    ),
    run=config.Run(num_iterations=100, eval_every=5, eval_episodes=50),
  )
