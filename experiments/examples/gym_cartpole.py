"""Gymnasium's CartPole-v1: two discrete actions, with a categorical policy.

python experiments/examples/gym_cartpole.py
"""

import gymnasium
import jax
import jax.numpy as jnp

from mbmpo_jax.training import external


def make_env():
  return gymnasium.make('CartPole-v1')


def done(next_obs):
  beyond = jnp.abs(next_obs) > jnp.array(
    [2.4, jnp.inf, 12 * jnp.pi / 180, jnp.inf]
  )
  return jnp.any(beyond, -1).astype(next_obs.dtype)


def reward(obs, action, next_obs):
  return jnp.ones_like(next_obs[..., 0])


def initial_obs(key):
  """Imagined episodes start from a wide range of states.

  The policy then learns to recover from any of them.
  """
  widths = jnp.array([2.0, 1.0, 0.15, 1.0])
  return widths * jax.random.uniform(key, (4,), minval=-1.0)


if __name__ == '__main__':
  task = external.Task(reward, done, initial_obs=initial_obs)
  settings = external.quick(
    transitions=20_000, episode_length=500, horizon=100, num_meta_steps=30
  )
  external.train(make_env, task, settings, 'runs/gym_cartpole')
  returns, _ = external.evaluate('runs/gym_cartpole', make_env)
  print(f'20 episodes of Gymnasium: {returns.mean():.0f}')
