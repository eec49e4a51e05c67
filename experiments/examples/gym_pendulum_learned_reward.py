"""Gymnasium's Pendulum-v1 with a learned reward.

  python experiments/examples/gym_pendulum_learned_reward.py

No reward function is given; the models predict the reward.
"""

import gymnasium

from mbmpo_jax.training import external


def make_env():
  return gymnasium.make('Pendulum-v1')


if __name__ == '__main__':
  task = external.Task(reward=external.PREDICTED, done=None)
  settings = external.quick(transitions=10_000, episode_length=200)
  folder = 'runs/gym_pendulum_learned_reward'
  external.train(make_env, task, settings, folder)
  returns, _ = external.evaluate(folder, make_env)
  print(f'20 episodes of Gymnasium: {returns.mean():.0f}')
