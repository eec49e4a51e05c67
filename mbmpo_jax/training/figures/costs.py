"""Estimates the duration of a run from measured constants.

The constants were measured on 2 otherwise idle cores of an AMD EPYC or an Intel
Xeon, in the learning runs of `benchmarks/results/`. Machines with these names
differ by up to a factor of two.
"""

import functools
import itertools
from typing import Any

from mbmpo_jax import envs

# Rates of the ensemble's matrix products in FLOP/s: in a fit and in imagined
# rollouts; for the small batches of a planner's candidates.
_RATE, _PLANNER_RATE = 150e9, 55e9
# Further seconds per gradient step and per policy step.
_PER_GRADIENT_STEP, _PER_POLICY_STEP = 2e-3, 0.06
# Cost of an outer step's derivatives, relative to its imagined rollouts.
_DERIVATIVES = 0.45
_COMPILING = 30.0
# Steps per second of 20 environments in parallel.
_ENV_RATES = {
  'half_cheetah': 7_600,
  'swimmer': 50_000,
  'hopper': 1_800,
  'walker2d': 1_350,
  'ant': 2_000,
  'pr2_reacher': 25_000,
  'point': 1e6,
}
# Model-free methods that learn from whole batches: seconds per transition,
# without physics.
_LEARNING = {'trpo': 2e-4, 'ppo': 2e-4, 'acktr': 3e-4}
# Methods that update at every step: further seconds per update; the rate of its
# small matrix products in FLOP/s; and the number of passes of a minibatch
# through a network of the critic's size.
_PER_UPDATE, _UPDATE_RATE = 1e-3, 25e9
_PASSES = {'sac': 20, 'ddpg': 13, 'm3po': 20, 'pearl': 20}
# Seconds per update and step of a GRU, or of an encoder over a context.
_PER_REMEMBERED = 2e-4


def seconds(config: Any) -> float:
  """Returns the seconds of a whole run; NaN for an unknown algorithm."""
  iterations = range(config.run.num_iterations)
  evaluations = 1 + (len(iterations) - 1) // config.run.eval_every
  played = (
    evaluations * config.run.eval_episodes * config.collect.episode_length
  )
  steps = config.collect.steps * len(iterations)
  total = _COMPILING + (steps + played) / _ENV_RATES.get(config.env.name, 5_000)
  name = config.algorithm
  if name in _LEARNING:
    return total + steps * _LEARNING[name]
  if name in _PASSES:
    total += steps * _update(config, _PASSES[name])
  if hasattr(getattr(config, 'model', None), 'validation_fraction'):
    total += sum(_fit(config, index) for index in iterations)
    total += _with_model(config, steps, played)
  elif name not in _PASSES:
    return float('nan')
  return total


def _with_model(config: Any, steps: int, played: int) -> float:
  """Returns the seconds of all work in the models, after their fits."""
  weights, name = _weights(config), config.algorithm
  if hasattr(config, 'planner'):
    planned = config.planner.steps(config.model.num_models)
    return 2 * weights * planned * (steps + played) / _PLANNER_RATE
  if name == 'm3po':
    return 2 * weights * config.model_rollouts.steps * steps / _RATE
  rollouts = config.model_rollouts
  if name == 'mbmpo':
    num_steps = config.meta.num_meta_steps
    imagined = 2 * config.num_tasks * rollouts.rollouts_per_task
  else:
    num_steps, imagined = config.improve.num_steps, rollouts.num_rollouts
  flop = 2 * weights * imagined * rollouts.horizon * (1 + _DERIVATIVES)
  seconds = num_steps * (_PER_POLICY_STEP + flop / _RATE)
  return config.run.num_iterations * seconds


def _update(config: Any, passes: int) -> float:
  """Returns the seconds of the gradient updates per transition."""
  learn, collect = config.learn, config.collect
  flop = passes * learn.batch_size * _weights(config, config.critic, last=1)
  rate = learn.num_updates / (learn.update_every * collect.num_envs)
  remembered = 0
  for name in ('history', 'context'):
    remembered += getattr(getattr(config, name, None), 'length', 0)
  overhead = _PER_UPDATE + _PER_REMEMBERED * remembered
  return rate * (overhead + flop / _UPDATE_RATE)


def _fit(config: Any, iteration: int) -> float:
  """Returns the seconds of an iteration's fit, with all its epochs."""
  model, collect = config.model, config.collect
  rows = min(collect.buffer_capacity, (iteration + 1) * collect.steps)
  batches = max(1.0, rows * (1 - model.validation_fraction) / model.batch_size)
  num_steps = batches * model.max_epochs
  if model.max_gradient_steps is not None:
    num_steps = min(num_steps, model.max_gradient_steps)
  flop = 6 * _weights(config) * model.num_models * model.batch_size
  return num_steps * (_PER_GRADIENT_STEP + flop / _RATE)


def _weights(config: Any, section: Any = None, last: int | None = None) -> int:
  """Returns the number of weights of a member, or of a section's network."""
  observation, action = _sizes(config.env.name, config.env.variant)
  hidden = (section or config.model).hidden_sizes
  sizes = (observation + action, *hidden, last or observation)
  return sum(a * b for a, b in itertools.pairwise(sizes))


@functools.cache
def _sizes(name: str, variant: str | None) -> tuple[int, int]:
  env = envs.make(name, variant)
  return env.observation_size, env.action_size
