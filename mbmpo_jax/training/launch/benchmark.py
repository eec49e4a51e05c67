"""Configurations for the environments of the public benchmark.

Any algorithm on any environment of Wang et al. (2019), for 200,000 real
transitions as in the benchmark. The sizes are reduced for a CPU; the
benchmark's own runs took days.
"""

import math
from typing import Any

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms.m3po import config as m3po
from mbmpo_jax.algorithms.mbmpo import bodies

VARIANT = 'benchmark'
TRANSITIONS = 200_000
# Environments that a CPU runs in minutes, and those with MuJoCo bodies.
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
# Returns at which an environment counts as solved: MB-MPO's published results
# for pendulum, cart-pole, inverted pendulum and reacher (rounded), and returns
# above MB-MPO's for the others. The best possible mean is 171.8 on the pendulum
# (`experiments/figures/benchmark_optimum.py`).
SOLVED = {
  'pendulum': 171.0,
  'inverted_pendulum': -0.05,
  'cartpole': 199.0,
  'acrobot': -60.0,
  'mountain_car': 0.0,
  'reacher': -5.6,
}
# Bodies that earn a reward by standing.
_STANDING = ('hopper', 'walker2d', 'ant')
_ON_POLICY = ('ppo', 'trpo', 'acktr')
# Approximate number of evaluations per run.
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
# By algorithm: values for the small environments, and for those with bodies.
# Values without a field in the configuration are left out.
_SIZES: dict[str, tuple[_Values, _Values]] = {
  'mbmpo': (
    _SMALL_MODEL
    | {
      'collect.num_trajectories': 10,
      'model_rollouts.tasks_per_model': 2,
      'model_rollouts.rollouts_per_task': 10,
      'meta.num_meta_steps': 15,
    },
    bodies.MODEL
    | bodies.STEPS
    | {
      # One task per model, because an iteration has few long episodes.
      'collect.num_trajectories': 5,
      'model_rollouts.tasks_per_model': 1,
      'model_rollouts.rollouts_per_task': 48,
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
  # No task is hidden here, so that M3PO needs no history.
  'm3po': (_ADAM | m3po.MBPO, m3po.MBPO),
}


def check(world: str, said: str = '') -> None:
  """Checks that the benchmark has an environment of this name.

  Args:
    world: the environment's name.
    said: the beginning of the error message.

  Raises:
    ConfigError: naming it, the existing ones, and the nearest of them.
  """
  if world not in WORLDS:
    start = f'{said}: {world!r}' if said else f'world={world!r}:'
    raise config_lib.ConfigError(
      f'{start} must be one of {", ".join(WORLDS)}'
      f'{validation.nearest(world, WORLDS)}'
    )


def config(
  algorithm: str, world: str, *, transitions: int = TRANSITIONS
) -> config_lib.Experiment:
  """Returns the configuration of an algorithm on a benchmark environment.

  Args:
    algorithm: the algorithm's name.
    world: one of `WORLDS`.
    transitions: real transitions; the run has the smallest number of whole
      iterations that collects as many.

  Raises:
    ConfigError: if there is no such environment, or too few transitions.
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
    # For methods whose environments continue across iterations.
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
  if algorithm == 'mbmpo' and world.removesuffix('_et') in _STANDING:
    values |= bodies.STANDING
  if 'collect.num_trajectories' in values and world in SMALL:
    # Equally many transitions per iteration for shorter episodes.
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
