"""CartPole-v1 of Gymnasium: two choices, by a categorical policy.

python experiments/examples/gym_cartpole.py
"""

import gymnasium
import jax.numpy as jnp

from mbmpo_jax.training import external


def make_env():
  return gymnasium.make('CartPole-v1')


def done(next_obs):
  beyond = jnp.abs(next_obs) > jnp.array([2.4, jnp.inf, 0.2095, jnp.inf])
  return jnp.any(beyond, -1).astype(next_obs.dtype)


def reward(obs, action, next_obs):
  return jnp.ones_like(next_obs[..., 0])


if __name__ == '__main__':
  settings = external.quick(
    transitions=18_000, episode_length=300, horizon=250, num_meta_steps=30
  )
  folder = 'runs/gym_cartpole'
  external.train(make_env, external.Task(reward, done), settings, folder)
  returns, _ = external.evaluate(folder, make_env)
  print(f'20 episodes of Gymnasium: {returns.mean():.0f}')
