"""Compares PPO and SAC of this package with brax's: returns and speed.

  python benchmarks/against_brax.py --method=ppo --env=half_cheetah

Both implementations use the hyperparameters of this package's preset for the
environment, the same seeds and the same number of transitions. They take turns
on the same cores: after each fifth of brax's run, this package trains for a
fifth of its run. Each side measures its own time. Then each policy is evaluated
on the same number of episodes, from the same initial states, with sampled
actions. At scale `paper` the run has the preset's length, at `quick` a fifth of
it.
"""

import math
import pathlib
import runpy
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import opponents
from benchmarks import options
from benchmarks import reports
from mbmpo_jax import algorithms
from mbmpo_jax import compat
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.launch import tiny

_METHOD = flags.DEFINE_enum(
  'method', 'ppo', sorted(opponents.OPPONENTS), 'Algorithm to compare.'
)
_NUM_RUNS = flags.DEFINE_integer(
  'num_runs',
  3,
  'Number of runs of each implementation, with seeds from 0.',
  lower_bound=1,
)
_CONFIGS = pathlib.Path(__file__).parents[1] / 'experiments' / 'configs'
_TURNS = 5
_EPISODES = 100
# brax compiles in its first two turns.
_COMPILING = 2


def make_config(
  method: str, env_name: str, scale: str
) -> config_lib.Experiment:
  """Returns the preset, with the number of iterations of the scale.

  Raises:
    config.ConfigError: if there is no preset for the environment.
  """
  path = _CONFIGS / method / f'{env_name}.py'
  if not path.exists():
    known = sorted(p.stem for p in path.parent.glob('*.py'))
    raise config_lib.ConfigError(
      f'--env={env_name}: must be one of {", ".join(known)}'
    )
  config: config_lib.Experiment = runpy.run_path(str(path))['get_config']()
  iterations = config.run.num_iterations
  if scale == 'quick':
    iterations //= 5
  if scale == 'tiny':
    config, iterations = tiny.shrink(config), _TURNS
  iterations = max(1, iterations // _TURNS) * _TURNS
  return config_lib.replaced(config, {'run.num_iterations': iterations})


def compete(
  opponent: opponents.Opponent, seed: int, *, num_episodes: int = _EPISODES
) -> dict[str, Any]:
  """Trains both implementations with one seed.

  Args:
    opponent: brax's trainer and this package's configuration.
    seed: seed of both.
    num_episodes: evaluation episodes of each policy.

  Returns:
    The returns of both, and their steps per second in each turn.
  """
  config = opponent.config
  env = envs.make(config.env.name, config.env.variant)
  algorithm = algorithms.make(config.algorithm, env, config)
  per_turn = config.run.num_iterations // _TURNS
  # Not in one program with `init`, as in a checkpointed run.
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(seed), base.hyper(config))
  ours = jax.jit(
    lambda state: jax.lax.scan(
      lambda state, _: (algorithm.update(state)[0], None),
      state,
      length=per_turn,
    )[0],
    donate_argnums=0,
  )
  turn = ours.lower(state).compile()
  rates: dict[str, list[float]] = {'ours': [], 'brax': []}

  def take_turns(step: int, metrics: dict[str, Any]) -> None:
    nonlocal state
    if step == 0:
      return
    start = time.perf_counter()
    state = jax.block_until_ready(turn(state))
    seconds = time.perf_counter() - start
    rates['ours'].append(per_turn * config.collect.steps / seconds)
    rates['brax'].append(float(metrics['training/sps']))

  with compat.brax_trainers():
    make_policy, params, _ = opponent.train(
      env,
      num_timesteps=config.run.num_iterations * config.collect.steps,
      num_evals=_TURNS + 1,
      seed=seed,
      progress_fn=take_turns,
    )
    players = {
      'ours': (algorithm.policy, algorithm.policy_params(state)),
      'brax': (opponents.as_policy(make_policy, env), params),
    }
    returns = {}
    for name, (policy, parameters) in players.items():
      play = evaluate.make_evaluate(
        env,
        policy,
        num_episodes=num_episodes,
        episode_length=config.collect.episode_length,
      )
      result = play(parameters, jax.random.PRNGKey(1000 + seed))
      returns[name] = float(result['eval/return_mean'])
  return {
    'seed': seed,
    'returns': returns,
    'steps_per_s': {
      name: values[_COMPILING:] for name, values in rates.items()
    },
  }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """Returns means over seeds and the differences between both sides.

  Example:
    >>> rows = [
    ...   {
    ...     'returns': {'ours': 2.0 + x, 'brax': 1.0 + x},
    ...     'steps_per_s': {'ours': [30.0, 20.0], 'brax': [10.0, 10.0]},
    ...   }
    ...   for x in (-1, 1)
    ... ]
    >>> found = summary(rows)
    >>> found['difference'], round(found['standard_error'], 3)
    (1.0, 1.414)
    >>> found['not_below'], found['rate_ratio']
    (True, 2.5)
  """
  returns = {
    name: np.array([row['returns'][name] for row in rows])
    for name in ('ours', 'brax')
  }
  difference = float(np.mean(returns['ours']) - np.mean(returns['brax']))
  error = None  # not defined for a single seed
  if len(rows) > 1:
    variances = [np.var(x, ddof=1) / len(rows) for x in returns.values()]
    error = math.sqrt(sum(variances))
  ratios = [
    ours / brax
    for row in rows
    for ours, brax in zip(
      row['steps_per_s']['ours'], row['steps_per_s']['brax'], strict=True
    )
  ]
  return {
    'mean_return': {name: float(np.mean(x)) for name, x in returns.items()},
    'difference': difference,
    'standard_error': error,
    'not_below': None if error is None else difference >= -2 * error,
    'rate_ratio': statistics.median(ratios),
  }


def run(
  method: str, env_name: str, scale: str, seeds: Sequence[int]
) -> dict[str, Any]:
  """Trains both with all seeds and prints a line for each seed."""
  config = make_config(method, env_name, scale)
  opponent = opponents.OPPONENTS[method](config)
  config = opponent.config
  steps = config.run.num_iterations * config.collect.steps
  print(
    f'{method} on {env_name}: {len(seeds)} runs each of {steps:,} transitions'
  )
  rows = []
  for seed in seeds:
    rows.append(row := compete(opponent, seed))
    returns = row['returns']
    rates = {k: statistics.median(v) for k, v in row['steps_per_s'].items()}
    print(
      f'seed {seed}: return {returns["ours"]:.2f}, brax'
      f' {returns["brax"]:.2f}; {rates["ours"]:,.0f} steps/s, brax'
      f' {rates["brax"]:,.0f}',
      flush=True,
    )
  found = summary(rows)
  error = found['standard_error']
  spread = '' if error is None else f' +- {error:.2f} (standard error)'
  print(
    f'difference {found["difference"]:.2f}{spread}, rate'
    f" {found['rate_ratio']:.2f} times brax's"
  )
  return reports.make(
    f'against_brax_{method}',
    env=env_name,
    scale=scale,
    precision='default',
    transitions=steps,
    config=config_lib.flatten(config),
    results=rows,
    summary=found,
  )


def main(argv: list[str]) -> None:
  """Compares both and writes the JSON file."""
  del argv
  report = run(
    _METHOD.value,
    options.ENV.value,
    options.SCALE.value,
    range(_NUM_RUNS.value),
  )
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
