"""Predictions are put back where observations are, whoever predicts them."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import point
from mbmpo_jax.envs import quaternions
from mbmpo_jax.models import base as models
from mbmpo_jax.models import dropout
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import projected
from mbmpo_jax.models import recurrent
from mbmpo_jax.models import recurrent_config
from mbmpo_jax.models import statistics
from mbmpo_jax.models.neural_process import config as surrogates
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import imagined


class Circle(point.Point):
  """The position is on the unit circle; pays what no point of it does."""

  def project(self, next_obs):
    length = jnp.linalg.norm(next_obs, axis=-1, keepdims=True)
    return next_obs / jnp.maximum(length, 1e-6)

  def reward(self, obs, action, next_obs):
    return jnp.abs(jnp.linalg.norm(next_obs, axis=-1) - 1)

  def done(self, next_obs):
    return (jnp.linalg.norm(next_obs, axis=-1) > 1.001).astype(float)


def _ensemble(env):
  section = config_lib.Ensemble(hidden_sizes=(8,), num_models=1)
  return ensemble.make(env, section)


def _biased(env):
  section = config_lib.Ensemble(
    hidden_sizes=(8,), num_models=1, bias_max=2.0, noise_std=0.5
  )
  return ensemble.make(env, section)


def _recurrent(env):
  section = recurrent_config.Ensemble(hidden_sizes=(8,), num_models=1)
  return recurrent.make(env, section, length=0, units=4)


def _dropout(env):
  return dropout.make(env, surrogates.Surrogate(kind='dropout'))


@pytest.mark.parametrize(
  'make', [_ensemble, _biased, _recurrent, _dropout], ids=lambda f: f.__name__
)
def test_every_model_predicts_what_can_be_observed(make):
  env = Circle()
  dynamics = make(env)
  seen = statistics.identity(4, 2, reward=make is _recurrent)
  model = dynamics.ready(dynamics.init(jax.random.PRNGKey(0)), seen)
  model = jax.tree.map(lambda x: x[0], model)
  key = jax.random.PRNGKey(1)
  carry = dynamics.start(model, key, (), 5)
  obs = jax.random.normal(key, (5, 2))
  _, predicted = dynamics.predict(model, carry, obs, jnp.ones((5, 2)), key)
  lengths = jnp.linalg.norm(predicted.next_obs, axis=-1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_reward_and_done_see_the_projection():
  env = Circle()
  outward = projected.make(
    models.Dynamics(
      init=lambda key: (),
      ready=lambda params, seen: (),
      start=lambda model, key, context, num: (),
      predict=lambda model, carry, obs, action, key: (
        carry,
        models.Prediction(obs + action + 1),
      ),
      loss=lambda *_: 0.0,
    ),
    env,
  )
  policy = gaussian.make(2, 2, config_lib.GaussianPolicy(hidden_sizes=(4,)))
  trajectory = imagined.rollout(
    policy,
    policy.init(jax.random.PRNGKey(0)),
    outward,
    (),
    jax.random.PRNGKey(1),
    jnp.ones((3, 2)),
    horizon=6,
    reward_fn=env.reward,
    done_fn=env.done,
  )
  np.testing.assert_allclose(trajectory.reward, 0, atol=1e-6)
  assert np.all(trajectory.mask == 1)


def test_nothing_is_added_where_nothing_is_projected():
  dynamics = _ensemble(point.Point())
  assert projected.make(dynamics, point.Point()) is dynamics
  assert not projected.projects(envs.make('half_cheetah'))
  assert projected.projects(envs.make('ant'))


_FLYING = """
<mujoco>
  <worldbody>
    <body pos="0 0 1"><freejoint/><geom size=".1"/>
      <body><joint/><geom size=".1" pos=".3 0 0"/>
        <body><joint type="ball"/><geom size=".1" pos=".6 0 0"/></body>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="x" ctrlrange="-1 1"/></actuator>
</mujoco>
""".replace('<body><joint/>', '<body><joint name="x"/>')


class Flying(mjx.MjxEnvironment):
  """Velocities first, the ball's quaternion before the free joint's."""

  max_episode_steps = 10
  observation_size = 20

  def initial_state(self, rng):
    return self.data(
      jnp.asarray(self.mj_model.qpos0), jax.random.normal(rng, (10,))
    )

  def observe(self, state):
    return jnp.concatenate([state.qvel, state.qpos[8:], state.qpos[2:8]])

  def reward(self, obs, action, next_obs):
    return next_obs[..., 0]


def test_quaternions_of_an_mjcf_environment_are_found(tmp_path):
  path = tmp_path / 'flying.xml'
  path.write_text(_FLYING)
  env = Flying(path, frame_skip=1)
  obs = 2 * jax.random.normal(jax.random.PRNGKey(0), (3, 5, 20))
  found = jax.jit(env.project)(obs)
  for start in (10, 15):
    lengths = jnp.linalg.norm(found[..., start : start + 4], axis=-1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
  others = [*range(10), 14, 19]
  np.testing.assert_array_equal(found[..., others], obs[..., others])
  own = jax.vmap(env.initial_obs)(jax.random.split(jax.random.PRNGKey(1), 4))
  np.testing.assert_allclose(env.project(own), own, atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'variant', 'start'),
  [
    ('ant', 'paper', 1),
    ('ant', 'gymnasium', 1),
    ('ant_fwd_bwd', None, 1),
    ('humanoid_direc', None, 1),
    ('slim_humanoid', None, 1),
    ('ant_crippled_leg', None, 3),
  ],
)
def test_our_own_bodies_keep_their_quaternions(name, variant, start):
  env = envs.make(name, variant)
  if start == 1 and name.startswith('ant'):
    reset = jax.vmap(env.initial_obs)(jax.random.split(jax.random.PRNGKey(1)))
    np.testing.assert_allclose(env.project(reset), reset, atol=1e-6)
  size = env.observation_size
  obs = 3 * jax.random.normal(jax.random.PRNGKey(0), (7, size))
  found = np.asarray(env.project(obs))
  quaternion = found[:, start : start + 4]
  np.testing.assert_allclose(np.linalg.norm(quaternion, axis=-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(
    found[:, start + 4 : start + 12], obs[:, start + 4 : start + 12]
  )
  again = np.asarray(env.project(jnp.asarray(found)))
  np.testing.assert_allclose(again, found, atol=1e-6)
  if variant == 'gymnasium':
    assert np.abs(found[:, 27:-1]).max() <= 1
  if name == 'ant_crippled_leg':
    for row in found:
      rotation = np.zeros(9)
      mujoco.mju_quat2Mat(rotation, row[3:7].astype(float))
      np.testing.assert_allclose(row[-12:-3], rotation, atol=1e-5)


@pytest.mark.parametrize('name', ['hopper', 'walker2d'])
def test_velocities_stay_within_those_observed(name):
  env = envs.make(name)
  half = env.observation_size // 2
  found = env.project(jnp.full(env.observation_size, 30.0))
  np.testing.assert_array_equal(found[-half:], 10)
  np.testing.assert_array_equal(found[: -half - 1], 30)


def test_a_told_task_is_left_alone():
  told = envs.make('ant_fwd_bwd', tell_task=True)
  obs = jnp.full(told.observation_size, 7.0)
  found = told.project(obs)
  assert found.shape == obs.shape and found[-1] == 7
  np.testing.assert_allclose(found[1:5], 0.5, rtol=1e-6)


def test_a_quaternion_without_direction_stays_finite():
  found = quaternions.normalized(jnp.zeros(4), (0,))
  assert np.all(np.isfinite(found))
  slope = jax.grad(lambda x: quaternions.normalized(x, (0,)).sum())
  assert np.all(np.isfinite(slope(jnp.zeros(4))))
