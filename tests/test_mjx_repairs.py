"""What is put right in MJX while a step is traced, and only then."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx as mujoco_mjx

from mbmpo_jax import envs
from mbmpo_jax.envs import contact
from mbmpo_jax.envs import mjx

_CAPSULE = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 .29"><freejoint/>
      <geom type="capsule" size=".05 .25" euler="12 9 0"/>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def falling(x64):
  """A steep capsule that touches the floor and slides, in MuJoCo and MJX."""
  model = mujoco.MjModel.from_xml_string(_CAPSULE)
  data = mujoco.MjData(model)
  data.qvel[:] = [1.0, 0.3, -0.2, 0.5, -0.4, 0.3]
  mujoco.mj_forward(model, data)
  assert data.ncon == 1
  device_model = mujoco_mjx.put_model(model)
  device_data = mujoco_mjx.make_data(device_model).replace(
    qpos=jnp.asarray(data.qpos), qvel=jnp.asarray(data.qvel)
  )
  return data, device_model, device_data


def test_steep_capsules_have_mujocos_contact_frames(falling):
  data, device_model, device_data = falling

  def error():
    # A new function each time: what was traced before is not found again.
    forward = jax.jit(lambda data: mujoco_mjx.forward(device_model, data))
    return np.max(np.abs(forward(device_data).qacc - data.qacc))

  with contact.capsule_frames():
    assert error() < 1e-9
  # Once MJX has them, too, this module can go.
  assert error() > 1e-3


@pytest.mark.parametrize('axis', [(0, 0, 1), (0, 0, -1), (1, 0, 0), (3, 4, 99)])
@pytest.mark.parametrize('normal', [(0, 0, 1), (0, 1, 0), (2, 3, 6)])
def test_frames_are_right_handed_and_orthonormal(axis, normal):
  axis, normal = (np.array(x) / np.linalg.norm(x) for x in (axis, normal))
  frame = contact._frame(jnp.asarray(normal), jnp.asarray(axis))
  np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-5)
  np.testing.assert_allclose(np.linalg.det(frame), 1.0, atol=1e-5)
  np.testing.assert_allclose(frame[0], normal, atol=1e-6)


def test_chains_are_not_fused():
  """Each of the arm's seven joints multiplies behind a barrier of its own."""
  env = envs.make('pr2_reacher')
  data = jax.eval_shape(env.initial_state, jax.random.PRNGKey(0))
  step = jax.make_jaxpr(env.advance)(data, jnp.zeros(7))
  assert str(step).count('optimization_barrier') >= 7
  kinematics = jax.make_jaxpr(
    lambda data: mujoco_mjx.kinematics(env.model, data)
  )(data)
  assert 'optimization_barrier' not in str(kinematics)


_TENDON = """
<mujoco>
  <option timestep="0.005" integrator="{}"/>
  <worldbody>
    <body><joint name="j" axis="0 1 0"/><site name="s" pos=".3 0 0"/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03"/></body>
    <site name="w" pos=".3 0 .3"/>
  </worldbody>
  <tendon>{}</tendon>
  <actuator><motor tendon="t" ctrlrange="-5 5"/></actuator>
</mujoco>
"""
_FIXED = '<fixed name="t"><joint joint="j" coef="1"/></fixed>'
_SPATIAL = '<spatial name="t"><site site="s"/><site site="w"/></spatial>'


class _Pulled(mjx.MjxEnvironment):
  max_episode_steps = 10
  observation_size = 1

  def initial_state(self, rng):
    return self.data(jnp.zeros(1), jax.random.normal(rng, (1,)))

  def observe(self, state):
    return state.qpos

  def reward(self, obs, action, next_obs):
    return next_obs[..., 0]


@pytest.mark.parametrize(
  ('integrator', 'tendon'), [('Euler', _FIXED), ('RK4', _SPATIAL)]
)
def test_tendons_keep_their_types_in_double_precision(
  x64, tmp_path, integrator, tendon
):
  path = tmp_path / 'pulled.xml'
  path.write_text(_TENDON.format(integrator, tendon))
  env = _Pulled(path, frame_skip=2)
  state = jax.eval_shape(env.reset, jax.random.PRNGKey(0))
  action = jax.ShapeDtypeStruct((1,), jnp.float64)
  after = jax.eval_shape(env.step, state, action)
  assert after == state
