"""The public benchmark's worlds: steps, rewards before the step, endings.

Classic control is held to Gymnasium's own steps, or NumPy's; bodies to
MuJoCo's. Rewards are computed here from the benchmark's formulas.
"""

import math

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mbmpo_jax import envs

# Length of episodes, physics steps a step, observations, actions, endings.
_TABLE = {
  'pendulum': (200, None, 3, 1, False),
  'cartpole': (200, None, 4, 1, False),
  'acrobot': (200, None, 6, 1, False),
  'mountain_car': (200, None, 2, 1, False),
  'inverted_pendulum': (100, 2, 4, 1, False),
  'reacher': (50, 2, 11, 2, False),
  'half_cheetah': (1000, 5, 17, 6, False),
  'swimmer': (1000, 4, 9, 2, False),
  'swimmer_v0': (1000, 4, 8, 2, False),
  'ant': (1000, 5, 27, 8, False),
  'ant_et': (1000, 5, 27, 8, True),
  'hopper': (1000, 4, 11, 3, False),
  'hopper_et': (1000, 4, 11, 3, True),
  'walker2d': (1000, 4, 17, 6, False),
  'walker2d_et': (1000, 4, 17, 6, True),
  'slim_humanoid': (1000, 5, 45, 17, False),
  'slim_humanoid_et': (1000, 5, 45, 17, True),
  'humanoid_et': (1000, 5, 376, 17, True),
}
_SLOW = pytest.mark.slow


def make(name: str) -> envs.Environment:
  return envs.make(name, 'benchmark')


@pytest.mark.parametrize('name', _TABLE)
def test_lengths_sizes_and_frame_skips(name):
  length, frame_skip, observation, action, ends = _TABLE[name]
  env = make(name)
  assert env.max_episode_steps == length
  assert getattr(env, 'frame_skip', None) == frame_skip
  assert env.observation_size == observation
  assert env.action_size == action
  assert env.can_terminate == ends


# --- classic control


def _gymnasium_step(name: str, state, action: float):
  """The state after a step of Gymnasium's own environment."""
  theirs = gymnasium.make(name).unwrapped
  theirs.reset(seed=0)
  theirs.state = np.array(state)
  if name == 'CartPole-v1':
    theirs.step(int(action > 0))
  elif name == 'Acrobot-v1':
    theirs.step(0 if action < -0.33 else 1 if action < 0.33 else 2)
  else:
    theirs.step(np.array([action]))
  return np.asarray(theirs.state, np.float64)


def _pendulum_step(name: str, state, action: float):
  """Gym's first: the speed is cut after the angle has moved by it."""
  del name
  theta, speed = state
  gravity, mass, length, torque = 10.0, 1.0, 1.0, 2.0 * action
  speed += 0.05 * (
    -3 * gravity / (2 * length) * math.sin(theta + math.pi)
    + 3 / (mass * length**2) * torque
  )
  return np.array([theta + 0.05 * speed, np.clip(speed, -8, 8)])


_CLASSIC = {
  'pendulum': (_pendulum_step, '', [4, 8]),
  'cartpole': (_gymnasium_step, 'CartPole-v1', [2, 2, 4, 4]),
  'acrobot': (_gymnasium_step, 'Acrobot-v1', [3.1, 3.1, 12, 28]),
  'mountain_car': (_gymnasium_step, 'MountainCarContinuous-v0', [2, 0.09]),
}


def _classic_reward(name: str, state, action: float) -> float:
  if name == 'pendulum':
    theta, speed = state
    return -(
      math.cos(theta)
      + 0.1 * abs(math.sin(theta))
      + 0.1 * speed**2
      + 0.001 * (2 * action) ** 2
    )
  if name == 'cartpole':
    return math.cos(state[2]) - 0.01 * state[0] ** 2
  if name == 'acrobot':
    return -math.cos(state[0]) - math.cos(state[0] + state[1])
  return state[0]


@pytest.mark.parametrize('name', _CLASSIC)
def test_classic_steps_and_rewards(name, x64):
  reference, their_name, widths = _CLASSIC[name]
  env = make(name)
  rng = np.random.default_rng(0)
  step = jax.jit(env.step)
  start = env.reset(jax.random.PRNGKey(0))
  # Mountain car's is kept in single precision there.
  close = dict(rtol=1e-6, atol=1e-7) if 'car' in name else dict(rtol=1e-10)
  ends = set()
  for _ in range(60):
    state = rng.uniform(-1, 1, len(widths)) * widths
    if name == 'mountain_car':
      state[0] = np.clip(state[0], -1.2, 0.6)
      state = np.float64(np.float32(state))
    action = rng.uniform(-1, 1)
    before = jnp.asarray(state)
    after = step(
      start.replace(pipeline_state=before, obs=env.observe(before)),
      jnp.asarray([action]),
    )
    expected = reference(their_name, state, action)
    np.testing.assert_allclose(after.pipeline_state, expected, **close)
    np.testing.assert_allclose(
      after.reward, _classic_reward(name, state, action), rtol=1e-10
    )
    ends.add(bool(np.isclose(abs(expected[-1]), (0, 0.07, 8)).any()))
  assert name not in ('pendulum', 'mountain_car') or ends == {True, False}


@pytest.mark.parametrize('name', _CLASSIC)
def test_what_is_out_of_bounds_is_put_back(name):
  """Of a prediction; observations stay, and models see no jump at a turn."""
  env = make(name)
  rng = np.random.default_rng(1)
  states = jax.vmap(env.initial_state)(
    jax.random.split(jax.random.PRNGKey(0), 8)
  )
  obs = jax.vmap(env.observe)(states)
  np.testing.assert_allclose(env.project(obs), obs, rtol=1e-6)
  assert env.model_input(obs).shape[0] == 8
  wild = env.project(jnp.asarray(50 * rng.normal(size=obs.shape)))
  for first, second in env.world.circles:
    squared = wild[:, first] ** 2 + wild[:, second] ** 2
    np.testing.assert_allclose(squared, 1, rtol=1e-5)
  for place, low, high in env.world.limits:
    assert np.min(wild[:, place]) >= low and np.max(wild[:, place]) <= high
  if name == 'cartpole':
    turned = obs.at[:, 2].add(2 * jnp.pi)
    np.testing.assert_allclose(
      env.model_input(turned), env.model_input(obs), atol=1e-5
    )


@pytest.mark.parametrize('name', ['pendulum', 'cartpole', 'mountain_car'])
def test_they_are_drawn_where_they_are(name):
  env = make(name)
  scene = env.scene()
  data = mujoco.MjData(scene)
  for state in ([0.3, 0.5, 0.7, 0.1], [-0.9, 0.0, -2.0, 0.0]):
    state = jnp.asarray(state[: len(env.world.low)])
    data.qpos = env.pose(state).qpos
    mujoco.mj_forward(scene, data)
    if name == 'mountain_car':
      place = data.body('car').xpos[[0, 2]]
      expected = [state[0], math.sin(3 * state[0]) / 3 + 0.05]
    else:
      place = 2 * data.geom('pole').xpos[[0, 2]]
      theta, x = (state[0], 0.0) if name == 'pendulum' else (state[2], state[0])
      # Gym's pole tips to the right, its pendulum to the left.
      side = -1 if name == 'pendulum' else 1
      expected = [2 * x + side * math.sin(theta), math.cos(theta)]
    np.testing.assert_allclose(place, expected, atol=1e-6)


# --- bodies


def _coordinates(env, rng) -> tuple[np.ndarray, np.ndarray]:
  """A state near rest, in which all that is paid for is something."""
  model = env.mj_model
  qpos = model.qpos0 + 0.1 * rng.normal(size=model.nq)
  return qpos, rng.normal(size=model.nv)


@pytest.mark.parametrize('name', ['inverted_pendulum', 'reacher'])
@_SLOW
def test_bodies_step_as_in_mujoco(name, x64):
  """One step from some states, and its reward."""
  env = make(name)
  model, data = env.mj_model, mujoco.MjData(env.mj_model)
  rng = np.random.default_rng(0)

  @jax.jit
  def step(qpos, qvel, action):
    before = env.data(qpos, qvel)
    obs = env.observe(before)
    after = env.observe(env.advance(before, action))
    return after, env.reward(obs, action, after)

  def observed() -> np.ndarray:
    if name == 'inverted_pendulum':
      return np.concatenate([data.qpos, data.qvel])
    mujoco.mj_kinematics(model, data)
    away = data.body('fingertip').xpos - data.body('target').xpos
    joints = data.qpos[:2]
    return np.concatenate(
      [np.cos(joints), np.sin(joints), data.qpos[2:], data.qvel[:2], away]
    )

  for _ in range(5):
    qpos, qvel = _coordinates(env, rng)
    action = rng.uniform(-1, 1, model.nu)
    mujoco.mj_resetData(model, data)
    data.qpos, data.qvel = qpos, qvel
    before = observed()
    data.ctrl = action * model.actuator_ctrlrange[:, 1]
    for _ in range(2):
      mujoco.mj_step(model, data)
    after, reward = step(qpos, qvel, action)
    np.testing.assert_allclose(after, observed(), rtol=1e-9, atol=1e-9)
    expected = -(before[1] ** 2)
    if name == 'reacher':
      expected = -np.linalg.norm(before[-3:]) - np.sum(action**2)
    np.testing.assert_allclose(reward, expected, rtol=1e-9)


def _walker_reward(name: str, qpos, qvel, action) -> float:
  """As the benchmark's code has it, of the state before the step."""
  effort = float(np.sum(action**2))
  forward = qvel[0]
  if name == 'half_cheetah':
    return forward - 0.1 * effort
  if name == 'swimmer_v0':
    return forward - 1e-4 * effort
  if name == 'swimmer':
    tip = forward - 1.5 * math.sin(qpos[2]) * qvel[2]
    return tip - 1e-4 * effort
  if 'humanoid' in name:
    alive = 5.0 * (1 <= qpos[2] <= 2)
    return 0.25 / 0.015 * forward + alive - 0.1 * 0.4**2 * effort
  height, target = qpos[1], 1.3
  if name.startswith('ant'):
    height, target = qpos[2], 0.57
  off = 3 * (height - target) ** 2
  alive = 1 - (name.endswith('_et') and _walker_done(name, qpos))
  return forward - off - 0.1 * effort + alive


def _walker_done(name: str, qpos) -> bool:
  if not name.endswith('_et'):
    return False
  if name == 'hopper_et':
    return qpos[1] <= 0.7 or abs(qpos[2]) >= 0.2
  if name == 'walker2d_et':
    return not 0.8 < qpos[1] < 2 or abs(qpos[2]) >= 1
  low, high = (0.2, 1) if name == 'ant_et' else (1, 2)
  return not low <= qpos[2] <= high


@pytest.mark.parametrize(
  'name', [x for x, row in _TABLE.items() if row[0] == 1000]
)
def test_rewards_and_endings_of_what_was_before(name, x64):
  """Healthy and fallen bodies; the next observation pays nothing."""
  env = make(name)
  rng = np.random.default_rng(0)
  hidden = env.hidden_coordinates
  ends = set()
  for height, pitch in (
    *((0.1, 0), (0.9, 0), (1.3, 0), (2.5, 0)),
    *((1.3, -0.21), (1.3, 0.6), (1.3, 1.1)),  # the limits are 0.2 and 1
  ):
    qpos, qvel = _coordinates(env, rng)
    if env.can_terminate or 'h' not in name[:2]:
      qpos[hidden if name.startswith(('ant', 'sl', 'hum')) else 1] = height
    if name in ('hopper_et', 'walker2d_et') and pitch:
      qpos[2] = pitch
    qvel *= 20  # Beyond what other variants observe.
    obs = env.observe(env.data(jnp.asarray(qpos), jnp.asarray(qvel)))
    body = np.concatenate([qpos[hidden:], qvel])
    np.testing.assert_allclose(obs[: len(body)], body, rtol=1e-12)
    action = rng.uniform(-1, 1, env.action_size)
    other = jnp.asarray(rng.normal(size=obs.shape))
    np.testing.assert_allclose(
      env.reward(obs, jnp.asarray(action), other),
      _walker_reward(name, qpos, qvel, action),
      rtol=1e-9,
    )
    assert env.done(obs) == _walker_done(name, qpos)
    ends.add(_walker_done(name, qpos))
  assert ends == ({True, False} if env.can_terminate else {False})


def test_the_swimmers_tip_is_its_first_links_end(x64):
  env = make('swimmer')
  data = mujoco.MjData(env.mj_model)
  rng = np.random.default_rng(0)
  for _ in range(3):
    qpos, qvel = _coordinates(env, rng)
    data.qpos, data.qvel = qpos, qvel
    mujoco.mj_forward(env.mj_model, data)
    link = data.geom('torso')
    half = env.mj_model.geom('torso').size[1]
    # A capsule lies along its z, from the tip to the joint here.
    along = half * link.xmat.reshape(3, 3)[:, 2]
    ends = [link.xpos + along, link.xpos - along]
    tip = max(ends, key=lambda x: np.sum((x[:2] - data.xpos[1][:2]) ** 2))
    speed = np.zeros((3, env.mj_model.nv))
    mujoco.mj_jac(env.mj_model, data, speed, None, tip, 1)
    made = env.data(jnp.asarray(qpos), jnp.asarray(qvel))
    np.testing.assert_allclose(made.userdata, [speed[0] @ qvel, tip[0]])
    np.testing.assert_allclose(env.observe(made)[-1], speed[0] @ qvel)


@pytest.mark.slow
def test_the_full_humanoid_feels_what_mujocos_does_at_rest(x64):
  """Inertias and velocities of its bodies; no forces before a step."""
  env = make('humanoid_et')
  model = env.mj_model
  state = jax.jit(env.initial_state)(jax.random.PRNGKey(0))
  obs = np.asarray(env.observe(state))
  data = mujoco.MjData(model)
  data.qpos, data.qvel = state.qpos, state.qvel
  mujoco.mj_fwdPosition(model, data)
  mujoco.mj_fwdVelocity(model, data)
  parts = [data.qpos[2:], data.qvel, data.cinert, data.cvel]
  felt = np.concatenate([part.ravel() for part in parts])
  np.testing.assert_allclose(obs[: felt.size], felt, rtol=1e-8, atol=1e-10)
  np.testing.assert_array_equal(obs[felt.size :], 0)


@pytest.mark.slow
def test_the_full_humanoid_feels_mujocos_forces(x64):
  """After a step, and pays for them at the next."""
  env = make('humanoid_et')
  model, data = env.mj_model, mujoco.MjData(env.mj_model)
  state = env.initial_state(jax.random.PRNGKey(0))
  qpos = state.qpos.at[2].set(1.25)  # Its feet in the ground.
  start = env.data(qpos, state.qvel)
  action = jnp.linspace(-1, 1, 17)
  after = jax.jit(env.advance)(start, action)
  data.qpos, data.qvel, data.ctrl = qpos, state.qvel, 0.4 * action
  for _ in range(5):
    mujoco.mj_step(model, data)
  mujoco.mj_rnePostConstraint(model, data)
  parts = [data.qpos[2:], data.qvel, data.cinert, data.cvel]
  parts += [data.qfrc_actuator, data.cfrc_ext]
  expected = np.concatenate([part.ravel() for part in parts])
  obs = env.observe(after)
  assert np.any(data.cfrc_ext)
  np.testing.assert_allclose(obs, expected, rtol=1e-6, atol=1e-6)
  cost = min(5e-7 * np.sum(data.cfrc_ext**2), 10)
  np.testing.assert_allclose(
    env.reward(obs, action, obs),
    _walker_reward('humanoid_et', data.qpos, data.qvel, action) - cost,
    rtol=1e-6,
  )


@pytest.mark.parametrize('name', ['walker2d', 'walker2d_et'])
def test_the_walkers_feet_differ(name):
  """As in Gym's first version; elsewhere both have 1.9."""
  feet = ['foot', 'foot_left']
  for variant, expected in (
    ('benchmark', [0.9, 1.9]),
    ('gymnasium', [1.9] * 2),
  ):
    if name == 'walker2d_et' and variant != 'benchmark':
      continue
    env = envs.make(name, variant)
    ids = [env.mj_model.geom(foot).id for foot in feet]
    np.testing.assert_allclose(
      np.asarray(env.model.geom_friction)[ids, 0], expected, rtol=1e-6
    )
    np.testing.assert_allclose(
      env.mj_model.geom_friction[ids, 0], expected, rtol=1e-6
    )
