"""PE-PPO on the point with a hidden direction; runs in a minute."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms.pe_ppo import config as pe_ppo


def get_config() -> pe_ppo.Config:
  """A window of 4 transitions, since the direction changes every 20 steps."""
  return pe_ppo.Config(
    env=config.Env(name='point_direc'),
    collect=on_policy_config.Collect(
      num_envs=20, steps_per_env=60, episode_length=60
    ),
    context=pe_ppo.Context(window=4, latent_size=4),
    policy=config.GaussianPolicy(hidden_sizes=(64, 64)),
    advantage=on_policy_config.Advantage(discount=0.9),
    learn=pe_ppo.Learn(
      num_epochs=10, num_minibatches=4, learning_rate=1e-3, kl_coef=0.01
    ),
    run=config.Run(num_iterations=50, eval_every=5, eval_episodes=20),
  )
