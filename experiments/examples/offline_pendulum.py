"""Gymnasium's Pendulum-v1, learned from a log of 5,000 random steps only.

  python experiments/examples/offline_pendulum.py

One column of the log is constant, one of its rows is NaN, and its episodes
differ in length. The reward is given as a function, as in `gym_pendulum.py`.
"""

import pathlib

import gymnasium
import numpy as np
from gym_pendulum import reward

from mbmpo_jax.training import external
from mbmpo_jax.training import logs

PATH = pathlib.Path('runs/pendulum.npz')


def make_env():
  env = gymnasium.make('Pendulum-v1')
  space = gymnasium.spaces.Box(-9, 9, (4,))  # The last one is constant.
  return gymnasium.wrappers.TransformObservation(
    env, lambda obs: np.append(obs, 5).astype(np.float32), space
  )


def write_log():
  env, rng = make_env(), np.random.default_rng(0)
  rows: list[tuple] = []
  while len(rows) < 5_000:
    obs, _ = env.reset(seed=len(rows))
    left = int(rng.integers(50, 200))
    while left and len(rows) < 5_000:
      action, left = rng.uniform(-2, 2, 1), left - 1
      next_obs, paid, *_ = env.step(action)
      rows.append((obs, action, paid, next_obs, not left))
      obs = next_obs
  obs, action, paid, next_obs, last = map(np.array, zip(*rows, strict=True))
  obs[1234] = np.nan
  PATH.parent.mkdir(exist_ok=True)
  np.savez(
    PATH,
    observations=obs,
    actions=action,
    rewards=paid,
    next_observations=next_obs,
    timeouts=last,
  )


if __name__ == '__main__':
  write_log()
  logs.train(
    PATH,
    external.Task(reward, done=None),
    logs.quick(),
    'runs/offline_pendulum',
    actions=logs.box([-2], [2]),
  )
  returns, _ = external.evaluate('runs/offline_pendulum', make_env)
  print(f'20 episodes of Gymnasium: {returns.mean():.0f}')
