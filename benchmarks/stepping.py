"""Times the steps of every environment with a random policy.

`throughput.py --env=all` calls it. It measures the collector's rollouts in
every environment and variant, in environment steps per second.
"""

import functools

import jax

from benchmarks import timing
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import real


def run(num_envs: int, horizon: int, repeats: int) -> list[timing.Timing]:
  """Measures every environment and prints a line for each.

  Args:
    num_envs: environments in parallel.
    horizon: steps of each, at most the environment's time limit.
    repeats: repetitions of each.
  """
  rate = timing.MatmulRate('highest')
  print(timing.HEADER)
  results = []
  for name in envs.names():
    for variant in envs.variants(name) or (None,):
      env = envs.make(name, variant)
      results.append(
        _measure(
          f'{name} {variant or ""}'.strip(),
          env,
          num_envs,
          min(horizon, env.max_episode_steps),
          rate,
          repeats,
        )
      )
      print(results[-1].row(), flush=True)
  return results


def _measure(
  name: str,
  env: envs.Environment,
  num_envs: int,
  horizon: int,
  rate: timing.MatmulRate,
  repeats: int,
) -> timing.Timing:
  policy = gaussian.make(
    env.observation_size,
    env.action_size,
    config_lib.GaussianPolicy(hidden_sizes=(32, 32)),
  )
  rollout = functools.partial(
    real.rollout,
    env,
    policy,
    num_envs=num_envs,
    horizon=horizon,
    random_actions=True,
  )
  key = jax.random.PRNGKey(0)
  return timing.measure(
    name, rollout, policy.init(key), key, rate=rate, repeats=repeats,
    work=num_envs * horizon, unit='env steps',
  )  # fmt: skip
