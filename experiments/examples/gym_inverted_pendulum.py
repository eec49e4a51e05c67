"""InvertedPendulum-v5 of Gymnasium, in MuJoCo: a pole on a cart.

python experiments/examples/gym_inverted_pendulum.py
"""

import gymnasium
import jax.numpy as jnp

from mbmpo_jax.training import external


def make_env():
  return gymnasium.make('InvertedPendulum-v5')


def done(next_obs):
  return (jnp.abs(next_obs[..., 1]) > 0.2).astype(next_obs.dtype)


def reward(obs, action, next_obs):
  return 1 - done(next_obs)


if __name__ == '__main__':
  settings = external.quick(
    transitions=18_000, episode_length=300, horizon=250, num_meta_steps=30
  )
  folder = 'runs/gym_inverted_pendulum'
  external.train(make_env, external.Task(reward, done), settings, folder)
  returns, _ = external.evaluate(folder, make_env)
  print(f'20 episodes of Gymnasium: {returns.mean():.0f}')
