"""MuJoCo Warp in place of MJX's physics; against MJX, which is MuJoCo's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco.mjx import warp as mjx_warp

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import loop
from tests import tiny

_NUM_ENVS = 4
needs_warp = pytest.mark.skipif(
  not mjx_warp.WARP_INSTALLED, reason='warp-lang is not installed'
)


def test_without_warp_one_line_says_so(monkeypatch):
  monkeypatch.setattr(mjx_warp, 'WARP_INSTALLED', False)
  with pytest.raises(envs.WarpError, match='needs warp-lang: pip install'):
    envs.on_warp(envs.make('swimmer'), num_envs=1)


def test_what_has_no_body_is_refused():
  with pytest.raises(envs.WarpError, match="must be 'mjx' for Point"):
    envs.on_warp(envs.make('point'), num_envs=1)


def test_unknown_physics_is_refused(tmp_path):
  config = tiny.point_config()
  config.env.physics = 'brax'
  with pytest.raises(
    config_lib.ConfigError, match=r"env.physics='brax'.*'mjx'"
  ):
    loop.train(config, tmp_path)
  assert not list(tmp_path.iterdir())


@needs_warp
def test_a_randomised_body_is_refused():
  env = envs.on_warp(envs.make('swimmer'), num_envs=1)
  with pytest.raises(envs.PhysicsError, match="physics='warp': must be 'mjx'"):
    envs.Randomized(env, lambda key: None)


@needs_warp
@pytest.mark.slow
@pytest.mark.parametrize('name', ['half_cheetah', 'hopper', 'ant'])
def test_a_rollout_is_that_of_mjx(name):
  """Two steps from the same states, contacts and resets in the batch included.

  Later, single precision's differences grow in both.
  """
  env = envs.make(name)
  horizon = 2
  policy = gaussian.make(
    env.observation_size,
    env.action_size,
    config_lib.GaussianPolicy(hidden_sizes=(8,)),
  )
  params = policy.init(jax.random.PRNGKey(1))

  @functools.partial(jax.jit, static_argnums=0)
  def rollout(env):
    return real.rollout(
      env,
      policy,
      params,
      jax.random.PRNGKey(0),
      num_envs=_NUM_ENVS,
      horizon=horizon,
    )[0]

  ours = rollout(env)
  theirs = rollout(envs.on_warp(env, num_envs=_NUM_ENVS))
  np.testing.assert_array_equal(theirs.obs[0], ours.obs[0])
  np.testing.assert_allclose(theirs.next_obs, ours.next_obs, atol=2e-3)
  assert jnp.median(jnp.abs(theirs.next_obs - ours.next_obs)) < 1e-5
