"""Gymnasium's InvertedPendulum-v5, simulated by MuJoCo: a pole on a cart.

python experiments/examples/gym_inverted_pendulum.py
"""

import gymnasium
import jax
import jax.numpy as jnp

from mbmpo_jax.training import external


def make_env():
  return gymnasium.make('InvertedPendulum-v5')


def done(next_obs):
  return (jnp.abs(next_obs[..., 1]) > 0.2).astype(next_obs.dtype)


def reward(obs, action, next_obs):
  return 1 - done(next_obs)


def initial_obs(key):
  """Imagined episodes start from a wide range of states.

  The policy then learns to recover from any of them.
  """
  widths = jnp.array([0.9, 0.15, 0.5, 0.5])
  return widths * jax.random.uniform(key, (4,), minval=-1.0)


if __name__ == '__main__':
  task = external.Task(reward, done, initial_obs=initial_obs)
  settings = external.quick(
    transitions=20_000, episode_length=500, horizon=100, num_meta_steps=30
  )
  external.train(make_env, task, settings, 'runs/gym_inverted_pendulum')
  returns, _ = external.evaluate('runs/gym_inverted_pendulum', make_env)
  print(f'20 episodes of Gymnasium: {returns.mean():.0f}')
