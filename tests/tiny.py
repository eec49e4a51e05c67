"""Small configurations and a world that ends early, shared by the tests."""

import functools

import jax
import numpy as np

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms.mbmpo import config as mbmpo_config
from mbmpo_jax.envs import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.training.launch import tiny as tiny_lib


def point_config(**overrides) -> mbmpo_config.Config:
  """2 members, 2 tasks each, on `point`; an iteration of it takes ~10 ms."""
  config = mbmpo_config.Config()
  config.env.name = 'point'
  config.policy.hidden_sizes = (8,)
  config.model.num_models = 2
  config.model.hidden_sizes = (16,)
  config.model.batch_size = 32
  config.model.max_epochs = 2
  config.model.early_stopping = False
  config.collect.num_trajectories = 4
  config.collect.episode_length = 10
  config.collect.buffer_capacity = 100
  config.model_rollouts.tasks_per_model = 2
  config.model_rollouts.rollouts_per_task = 3
  config.model_rollouts.horizon = 10
  config.meta.num_meta_steps = 2
  config.run.eval_episodes = 4
  config.run.render = False
  for name, value in overrides.items():
    section, _, field = name.partition('__')
    setattr(getattr(config, section), field, value)
  return config


def of(algorithm: str, **overrides) -> config_lib.Experiment:
  """The same of another algorithm, as far as it has these fields."""
  values = config_lib.flatten(point_config(**overrides))
  config = tiny_lib.shrink(algorithms.config(algorithm)())
  known = config_lib.flatten(config)
  return config_lib.replaced(
    config, {name: x for name, x in values.items() if name in known}
  )


# Overrides with which members stop early, at different epochs.
STOPPING = {
  'model__early_stopping': True,
  'model__max_epochs': 30,
  'model__learning_rate': 0.03,
  'model__rolling_persistence': 0.5,
}


def assert_close(actual, expected, rtol: float = 1e-8) -> None:
  """Every element to `rtol`, or to a hundredth of it of the leaf's largest."""
  leaves = zip(
    jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
  )
  for (path, value), reference in leaves:
    largest = np.max(np.abs(reference), initial=0)
    np.testing.assert_allclose(
      value, reference, rtol=rtol, atol=rtol / 100 * largest, err_msg=str(path)
    )


class Countdown(base.Environment):
  """Observes a counter; the episode ends when it reaches `limit`.

  Every step adds one and pays the counter it started from, so returns, lengths
  and resets are known in advance. Resets start at 0 or 1.
  """

  max_episode_steps = 100
  dt = 1.0
  observation_size = 1
  action_size = 1
  limit = 4.0

  def initial_state(self, rng: jax.Array) -> jax.Array:
    return jax.random.bernoulli(rng, shape=(1,)).astype(float)

  def advance(self, pipeline_state: jax.Array, action: jax.Array) -> jax.Array:
    return pipeline_state + 1

  def observe(self, pipeline_state: jax.Array) -> jax.Array:
    return pipeline_state

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    return obs[..., 0]

  def done(self, next_obs: jax.Array) -> jax.Array:
    return (next_obs[..., 0] >= self.limit).astype(next_obs.dtype)


# A policy for worlds that do not listen, with one action.
NO_OP = policies.memoryless(
  lambda key: (),
  lambda params, obs: distributions.Gaussian(0 * obs, 0 * obs[:1]),
  noise=functools.partial(distributions.normal_noise, action_size=1),
)
