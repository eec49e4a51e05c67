"""What check_environment says, in one line, of worlds that people bring."""

import jax
import jax.numpy as jnp
import pytest

from mbmpo_jax import envs
from mbmpo_jax.envs import against_mujoco
from mbmpo_jax.envs import mjx


class Late(envs.Environment):
  """NaN is paid where the first number passes 0.3."""

  observation_size = 2
  action_size = 1
  max_episode_steps = 200
  dt = 0.1
  can_terminate = False

  def initial_state(self, rng):
    return jax.random.normal(rng, (self.observation_size,))

  def advance(self, state, action):
    return 0.9 * state + 0.1 * action[0]

  def observe(self, state):
    return state

  def reward(self, obs, action, next_obs):
    pays = -jnp.square(next_obs[..., 0])
    return jnp.where(next_obs[..., 0] > 0.3, jnp.nan, pays)


class Sound(Late):
  def reward(self, obs, action, next_obs):
    return -jnp.square(next_obs[..., 0])


class Long(Late):
  observation_size = 200


class BadReset(Sound):
  def initial_state(self, rng):
    return jax.random.normal(rng, (2,)).at[1].set(jnp.inf)


class HalfDone(Sound):
  can_terminate = True

  def done(self, next_obs):
    return 0.5 * (next_obs[..., 0] < 2).astype(next_obs.dtype)


class Squeezed(Sound):
  def project(self, next_obs):
    return 0.5 * next_obs


class NarrowProject(Sound):
  def project(self, next_obs):
    return next_obs[..., :1]


@pytest.mark.parametrize(
  ('world', 'said'),
  [
    (Late, ['Late: reward is not finite at step 1', ' of 4 env', 'nan of obs']),
    (Long, ['Long: reward is not finite', ', ...]']),
    (BadReset, ['obs of a reset is not finite in 4 of 4', 'dimensions [1]']),
    (HalfDone, ['done must be 0. or 1.', 'at step 1', '0.5 of obs']),
    (Squeezed, ['project() changes an observation', 'at step 1']),
    (NarrowProject, ['project() of a batch [] is', 'must be float32[2]']),
  ],
)
def test_a_contract_that_is_broken_is_told_in_one_short_line(world, said):
  with pytest.raises(envs.ContractError) as error:
    envs.check_environment(world())
  message = str(error.value)
  assert '\n' not in message and len(message) < 300
  for words in said:
    assert words in message


_ARM = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body><joint name="elbow" axis="0 1 0" damping=".1" stiffness="{}"/>
      <geom size=".05" pos=".3 0 0"/></body>
  </worldbody>
  <actuator><motor joint="elbow" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Arm(mjx.MjxEnvironment):
  max_episode_steps = 100
  observation_size = 2

  def initial_state(self, rng):
    return self.data(0.1 * jax.random.normal(rng, (1,)), jnp.zeros(1))

  def observe(self, state):
    return jnp.concatenate([state.qpos, state.qvel])

  def reward(self, obs, action, next_obs):
    return next_obs[..., 0]


@pytest.fixture
def arm(tmp_path):
  path = tmp_path / 'arm.xml'
  path.write_text(_ARM.format(3))
  return Arm(path, frame_skip=2)


def test_physics_that_is_not_mujocos_is_refused(arm):
  assert against_mujoco.first_difference(arm) is None
  # As if MJX knew nothing of springs.
  arm.model = arm.model.replace(jnt_stiffness=jnp.zeros(1))
  with pytest.raises(envs.ContractError) as error:
    envs.check_environment(arm)
  message = str(error.value)
  assert message.startswith("Arm: the velocity of joint 'elbow' after step ")
  assert 'in MuJoCo: must be' in message and 'remove elements' in message


@pytest.mark.slow
def test_drawn_physics_is_compared_with_itself(arm):
  drawn = envs.physics.scaled(arm.model, envs.physics.Scales(mass=2.0))
  heavy = envs.physics.with_physics(arm, drawn)
  assert against_mujoco.first_difference(heavy) is None


def test_what_convex_shapes_do_is_a_warning(arm, monkeypatch):
  found = against_mujoco.Difference('joint moves', "geom 'a' with geom 'b'")
  monkeypatch.setattr(
    against_mujoco, 'first_difference', lambda env, seed: found
  )
  with pytest.warns(UserWarning, match="at the contact of geom 'a'"):
    envs.check_environment(arm)


def test_physics_is_found_within(arm):
  randomized = envs.Randomized(arm, lambda key: envs.physics.Scales())
  assert against_mujoco.physics_of(randomized) is arm
  assert against_mujoco.physics_of(Sound()) is None
