"""Gymnasium's Pendulum-v1, learned from 9,600 real steps.

  python experiments/examples/gym_pendulum.py

The reward is defined again as a function of observations and of the action in
[-1, 1], because imagined rollouts need it.
"""

import gymnasium
import jax.numpy as jnp

from mbmpo_jax.training import external


def make_env():
  return gymnasium.make('Pendulum-v1')


def reward(obs, action, next_obs):
  angle, torque = jnp.arctan2(obs[..., 1], obs[..., 0]), 2 * action[..., 0]
  return -(angle**2) - 0.1 * obs[..., 2] ** 2 - 0.001 * torque**2


if __name__ == '__main__':
  task = external.Task(reward, done=None)
  settings = external.quick(transitions=10_000, episode_length=200)
  external.train(make_env, task, settings, 'runs/gym_pendulum')
  returns, _ = external.evaluate('runs/gym_pendulum', make_env)
  print(f'20 episodes of Gymnasium: {returns.mean():.0f}')
