"""Configurations for the worlds of the public benchmark (Wang et al. 2019).

Any algorithm in any world, for 200,000 real transitions as there. Sizes are for
a CPU: those of the benchmark's own runs took days.
"""

import math
from typing import Any

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation

VARIANT = 'benchmark'
TRANSITIONS = 200_000
# Those that a CPU does in minutes, and those with bodies.
SMALL = (
  'pendulum',
  'inverted_pendulum',
  'cartpole',
  'acrobot',
  'mountain_car',
  'reacher',
)
WORLDS = (
  *SMALL,
  'half_cheetah',
  'swimmer_v0',
  'swimmer',
  'ant',
  'ant_et',
  'walker2d',
  'walker2d_et',
  'hopper',
  'hopper_et',
  'slim_humanoid',
  'slim_humanoid_et',
  'humanoid_et',
)
_ON_POLICY = ('ppo', 'trpo', 'acktr')
# Evaluations of a run, about.
_EVALUATIONS = 25

_Values = dict[str, Any]

_SMALL_MODEL: _Values = {
  'model.hidden_sizes': (128, 128),
  'model.batch_size': 250,
  'model.max_epochs': 40,
  'model.max_gradient_steps': 800,
  'model.clip_margin': 0.25,
}
_MODEL: _Values = {
  'model.hidden_sizes': (512, 512),
  'model.max_epochs': 40,
  'model.max_gradient_steps': 2000,
  'model.clip_margin': 0.25,
}
_ADAM: _Values = {
  'policy.learning_rate': 1e-3,
  'critic.learning_rate': 1e-3,
  'temperature.learning_rate': 1e-3,
  'policy.hidden_sizes': (64, 64),
  'critic.hidden_sizes': (64, 64),
  'learn.batch_size': 128,
}
_CEM: _Values = {
  'collect.num_trajectories': 5,
  'planner.kind': 'cem',
  'planner.num_candidates': 200,
  'planner.num_elites': 20,
  'planner.num_iterations': 3,
  'planner.horizon': 20,
}
# M3PO without a history, as no task is hidden here, is MBPO.
_MBPO: _Values = {
  'history.length': 0,
  'batches.kind': 'mixed',
  'batches.final_model_share': 0.95,
}
# By algorithm: in the small worlds, and in those with bodies. What a
# configuration has no field for is left out.
_SIZES: dict[str, tuple[_Values, _Values]] = {
  'mbmpo': (
    _SMALL_MODEL
    | {
      'collect.num_trajectories': 10,
      'model_rollouts.tasks_per_model': 2,
      'model_rollouts.rollouts_per_task': 10,
      'meta.num_meta_steps': 15,
    },
    _MODEL
    | {
      'collect.num_trajectories': 5,
      'model_rollouts.tasks_per_model': 1,
      'model_rollouts.rollouts_per_task': 25,
    },
  ),
  'me_trpo': (
    _SMALL_MODEL
    | {
      'collect.num_trajectories': 10,
      'model_rollouts.num_rollouts': 100,
      'improve.num_steps': 15,
    },
    _MODEL | {'collect.num_trajectories': 5},
  ),
  'mb_mpc': (
    _SMALL_MODEL | _CEM,
    _MODEL | _CEM,
  ),
  'sac': (_ADAM, {}),
  'ddpg': (_ADAM, {}),
  'ppo': ({'learn.learning_rate': 1e-3}, {}),
  'm3po': (_ADAM | _MBPO, _MBPO),
}


def check(world: str, said: str = '') -> None:
  """That the benchmark has a world of this name.

  Args:
    world: its name.
    said: what the message begins with.

  Raises:
    ConfigError: naming it, those that there are, and the nearest.
  """
  if world not in WORLDS:
    raise config_lib.ConfigError(
      f'{said or f"world={world!r}"}: {world!r} is no world of the benchmark:'
      f' must be one of {", ".join(WORLDS)}{validation.nearest(world, WORLDS)}'
    )


def config(
  algorithm: str, world: str, *, transitions: int = TRANSITIONS
) -> config_lib.Experiment:
  """An algorithm in a world of the benchmark.

  Args:
    algorithm: its name.
    world: one of `WORLDS`.
    transitions: real ones; whole iterations are done until there are as many.

  Raises:
    ConfigError: if there is no such world, or too few transitions.
    UnknownAlgorithmError: if there is no such algorithm.

  Example:
    >>> made = config('mbmpo', 'reacher')
    >>> made.collect.episode_length, made.run.num_iterations
    (50, 100)
  """
  check(world)
  if transitions < 1:
    raise config_lib.ConfigError(f'transitions={transitions}: must be >= 1')
  made = algorithms.config(algorithm)()
  env = envs.make(world, VARIANT)
  values: dict[str, Any] = {
    'env.name': world,
    'env.variant': VARIANT,
    'collect.episode_length': env.max_episode_steps,
    'collect.buffer_capacity': TRANSITIONS,
    # Of methods that step environments which go on.
    'collect.steps_per_env': 200,
    'run.eval_episodes': 10,
  }
  if algorithm in ('sac', 'ddpg', 'm3po', 'pearl'):
    values['collect.steps_per_env'] = 2000
  if algorithm in ('mbmpo', 'me_trpo', 'gssm'):
    values['model_rollouts.horizon'] = min(env.max_episode_steps, 200)
    values['model_rollouts.restart'] = env.can_terminate
  if algorithm in _ON_POLICY:
    values['collect.num_envs'] = 10
  if algorithm in _SIZES:
    values |= _SIZES[algorithm][world not in SMALL]
  if 'collect.num_trajectories' in values and world in SMALL:
    # As many transitions in an iteration, however short the episodes.
    values['collect.num_trajectories'] *= 200 // env.max_episode_steps
  if algorithm == 'mb_mpc':
    values['run.eval_episodes'] = 2
  known = config_lib.flatten(made)
  made = config_lib.replaced(
    made, {name: x for name, x in values.items() if name in known}
  )
  count = max(1, math.ceil(transitions / made.collect.steps))
  return config_lib.replaced(
    made,
    {
      'run.num_iterations': count,
      'run.eval_every': max(1, count // _EVALUATIONS),
      'run.checkpoint_every': max(1, count // _EVALUATIONS),
    },
  )
