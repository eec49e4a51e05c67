"""Presets learn what they promise, from nothing but their own transitions."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.rollouts import real

_CONFIGS = pathlib.Path(__file__).parent.parent / 'experiments' / 'configs'


def preset(name: str) -> config_lib.Experiment:
  return runpy.run_path(str(_CONFIGS / f'{name}.py'))['get_config']()


def optimal_point_return(starts: np.ndarray, horizon: int) -> np.ndarray:
  """Both coordinates walk to zero, independently, at full speed."""
  state, total = starts.astype(np.float64), 0.0
  for _ in range(horizon):
    total = total - np.sum(state**2, -1)
    state = state - np.clip(state, -0.1, 0.1)
  return total


def test_optimal_point_return_in_expectation():
  starts = np.random.default_rng(0).uniform(-2, 2, (200_000, 2))
  mean = optimal_point_return(starts, 30).mean()
  np.testing.assert_allclose(mean, -14.70, atol=0.1)


@pytest.mark.slow
def test_point_preset_comes_within_15_percent_of_the_optimum():
  config = preset('mbmpo/point')
  env = envs.make('point')
  algorithm = algorithms.make('mbmpo', env, config)
  key = jax.random.PRNGKey(config.seed)
  state = jax.jit(algorithm.init)(key, base.hyper(config))
  update = jax.jit(algorithm.update, donate_argnums=0)
  for _ in range(config.run.num_iterations):
    state, _ = update(state)

  trajectory, _ = real.rollout(
    env,
    algorithm.policy,
    algorithm.policy_params(state),
    jax.random.PRNGKey(1234),
    num_envs=1000,
    horizon=30,
  )

  achieved = np.asarray(jnp.sum(trajectory.reward, 0), np.float64).mean()
  optimal = optimal_point_return(np.asarray(trajectory.obs[0]), 30).mean()
  print(f'return {achieved:.2f}, optimum {optimal:.2f}')
  assert achieved >= 1.15 * optimal
