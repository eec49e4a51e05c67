"""The methods that the paper compares, at each size of a figure.

`tiny` reduces everything to a minimum, on the 2-D point. `quick` has shorter
versions of the presets of `experiments/configs/`; in these, all model-based
methods have MB-MPO's models, trust region and number of policy steps, and
MB-MPC plans by random shooting. `full` has the values of the paper's appendix
A.3.
"""

import math
import pathlib
from typing import Any

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax.training.launch import presets
from mbmpo_jax.training.launch import tiny

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / 'configs'

MODEL_FREE = ('trpo', 'ppo', 'acktr', 'ddpg', 'sac')
_OFF_POLICY = ('ddpg', 'sac')
SEEDS = {'tiny': 2, 'quick': 3, 'full': 3}
# The environments of the paper's figures 1 and 2.
FULL_ENVS = (
  'swimmer',
  'half_cheetah',
  'walker2d',
  'pr2_reacher',
  'hopper',
  'ant',
)
_DEEP = ('ant', 'walker2d')
_CAN_FALL = ('ant', 'walker2d', 'hopper')
# Transitions per run in the quick sizes.
_QUICK = {
  'point': {'on': 120_000, 'off': 60_000, 'model': 6_000, 'planner': 6_000},
  'half_cheetah': {
    'on': 400_000,
    'off': 40_000,
    'model': 32_000,
    'planner': 16_000,
  },
  'walker2d': {'model': 24_000},
}
_QUICK_PLANNER = {
  'planner.kind': 'random_shooting',
  # Half of the paper's 1,000.
  'planner.num_candidates': 500,
  'planner.horizon': 10,
  'run.eval_every': 1,
}
# Transitions per run in the paper's figures 1 and 2, read off the axes.
_FULL = {
  'on': 10_000_000,
  'off': 10_000_000,
  'model': 400_000,
  'planner': 400_000,
}


def config(
  algorithm: str, env: str, size: str, values: dict[str, Any] | None = None
) -> config_lib.Experiment:
  """Returns the configuration of a method in an environment.

  Args:
    algorithm: the algorithm's name.
    env: the environment's name.
    size: one of `command.SIZES`: `tiny`, `quick` or `full`.
    values: further fields by dotted name; `tiny` overrides them.
  """
  made = paper(algorithm, env) if size == 'full' else preset(algorithm, env)
  if size == 'quick' and algorithm in ('me_trpo', 'mb_mpc'):
    made = config_lib.replaced(made, _as_ours(algorithm, env))
  made = config_lib.replaced(made, values or {})
  kind = 'planner' if algorithm == 'mb_mpc' else 'model'
  if algorithm in MODEL_FREE:
    kind = 'off' if algorithm in _OFF_POLICY else 'on'
  if size == 'tiny':
    return lasting(tiny.shrink(made), 0)
  budget = _FULL if size == 'full' else _QUICK[env]
  return lasting(made, budget[kind])


def _as_ours(algorithm: str, env: str) -> dict[str, Any]:
  """Returns the fields that a model-based method shares with MB-MPO."""
  ours = config_lib.flatten(preset('mbmpo', env))
  values = {name: x for name, x in ours.items() if name.startswith('model.')}
  if algorithm == 'mb_mpc':
    return values | _QUICK_PLANNER
  values['trust_region.max_kl'] = ours['trust_region.max_kl']
  values['improve.num_steps'] = ours['meta.num_meta_steps']
  return values


def preset(
  algorithm: str, env: str, *, like: str = 'half_cheetah'
) -> config_lib.Experiment:
  """Returns the preset for `env`, or the preset for `like` changed to `env`."""
  quick = CONFIGS / algorithm / f'{env}_quick.py'
  path = CONFIGS / algorithm / f'{env}.py'
  for candidate in (quick, path):
    if candidate.is_file():
      return presets.load(str(candidate), candidate)[0]
  path = CONFIGS / algorithm / f'{like}.py'
  return config_lib.replaced(
    presets.load(str(path), path)[0], {'env.name': env}
  )


def paper(algorithm: str, env: str) -> config_lib.Experiment:
  """Returns the paper's values.

  For model-based methods these are the fields' defaults. For model-free methods
  the presets are used, with episodes of 200 steps.
  """
  variant = 'paper' if env == 'half_cheetah' else None
  values: dict[str, Any] = {
    'env.name': env,
    'env.variant': variant,
    'collect.episode_length': 30 if env == 'point' else 200,
  }
  if algorithm in _OFF_POLICY:
    values['collect.buffer_capacity'] = 1_000_000
  if algorithm in MODEL_FREE:
    return config_lib.replaced(preset(algorithm, env), values)
  made = algorithms.config(algorithm)()
  hidden = (512, 512, 512) if env in _DEEP else (512, 512)
  values['model.hidden_sizes'] = (128, 128) if env == 'point' else hidden
  if algorithm != 'mb_mpc':
    values['model_rollouts.restart'] = env in _CAN_FALL
    values['model_rollouts.horizon'] = values['collect.episode_length']
  return config_lib.replaced(made, values)


def lasting(
  config: config_lib.Experiment, transitions: int, evaluations: int = 30
) -> config_lib.Experiment:
  """Returns `config` for about so many real transitions and evaluations.

  It has at least two iterations, and keeps only the newest checkpoint.
  """
  count = max(2, math.ceil(transitions / config.collect.steps))
  return config_lib.replaced(
    config,
    {
      'run.num_iterations': count,
      'run.eval_every': max(config.run.eval_every, count // evaluations),
      'run.checkpoint_every': max(1, count // 20),
      'run.keep_checkpoints': 1,
      'run.render': False,
    },
  )
