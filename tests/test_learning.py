"""MB-MPO's preset learns what it promises, from its own transitions alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.rollouts import real
from tests import learning


def test_optimal_point_return_in_expectation():
  starts = np.random.default_rng(0).uniform(-2, 2, (200_000, 2))
  mean = learning.optimal_point_return(starts, 30).mean()
  np.testing.assert_allclose(mean, -14.70, atol=0.1)


@pytest.mark.slow
def test_point_preset_comes_within_15_percent_of_the_optimum():
  config = learning.preset('mbmpo/point')
  algorithm, params = learning.trained(
    config, config.run.num_iterations, config.seed
  )
  trajectory, _ = real.rollout(
    envs.make('point'),
    algorithm.policy,
    params,
    jax.random.PRNGKey(1234),
    num_envs=1000,
    horizon=30,
  )
  achieved = np.asarray(jnp.sum(trajectory.reward, 0), np.float64).mean()
  starts = np.asarray(trajectory.obs[0])
  optimal = learning.optimal_point_return(starts, 30).mean()
  print(f'return {achieved:.2f}, optimum {optimal:.2f}')
  assert achieved >= 1.15 * optimal
