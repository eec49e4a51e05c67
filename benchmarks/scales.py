"""The measured configurations, and a state full of data."""

from collections.abc import Callable
from typing import Any

import jax

from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.algorithms.mbmpo import state as state_lib


def make_config(env_name: str, scale: str) -> config_lib.Config:
  """Returns the configuration of a scale, with a fixed number of epochs."""
  config = config_lib.Config()
  config.env.name = env_name
  config.model.early_stopping = False
  config.model.max_epochs = 20
  config.collect.buffer_capacity = 20_000
  if scale in ('quick', 'tiny'):
    config.model_rollouts.rollouts_per_task = 5
    config.meta.num_meta_steps = 6
    config.collect.buffer_capacity = 4_000
  if scale == 'tiny':
    config.model.hidden_sizes = (16, 16)
    config.model.max_epochs = 2
    config.model_rollouts.horizon = config.collect.episode_length = 10
    config.meta.num_meta_steps = 2
    config.collect.buffer_capacity = 400
  limit = envs.make(env_name).max_episode_steps
  config.model_rollouts.horizon = min(config.model_rollouts.horizon, limit)
  config.collect.episode_length = min(config.collect.episode_length, limit)
  return config


def at_least_s(scale: str) -> float:
  """Returns the minimal seconds of a repetition of a short program."""
  return 0.0 if scale == 'tiny' else 1.0


def fill(
  collect: Callable[[state_lib.State], Any],
  state: state_lib.State,
  config: config_lib.Config,
) -> state_lib.State:
  """Collects until the buffer is full.

  Args:
    collect: the algorithm's compiled phase.
    state: the initial state.
    config: gives the sizes.
  """
  sizes = config.collect
  for _ in range(-(-sizes.buffer_capacity // sizes.steps)):
    state = collect(state)[0]
  return state


def start(
  algorithm: base.Algorithm, config: config_lib.Config
) -> state_lib.State:
  """Returns a state without data."""
  key = jax.random.PRNGKey(config.seed)
  return jax.jit(algorithm.init)(key, base.hyper(config))


def prepare(
  algorithm: base.Algorithm, config: config_lib.Config
) -> state_lib.State:
  """Returns a state with a full buffer and models fitted to it."""
  collect, fit = (jax.jit(algorithm.phases[n]) for n in ('collect', 'fit'))
  state = fit(fill(collect, start(algorithm, config), config))[0]
  counters = state.counters
  return state._replace(
    counters=counters._replace(iteration=counters.iteration + 1)
  )
