"""Task families of MuJoCo's bodies, each against MuJoCo with that body.

One program per family, in double precision, serves all that is asked of it.
"""

import functools
import pathlib
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.envs import ant_crippled_leg
from mbmpo_jax.envs import families
from mbmpo_jax.envs import mass_damping
from mbmpo_jax.envs import mjx

_SLOW = pytest.mark.slow
_NAMES = (
  pytest.param('half_cheetah_fwd_bwd', marks=_SLOW),
  pytest.param('half_cheetah_mass_damping', marks=_SLOW),
  pytest.param('half_cheetah_pier', marks=_SLOW),
  pytest.param('ant_fwd_bwd', marks=_SLOW),
  pytest.param('ant_crippled_leg', marks=_SLOW),
  pytest.param('walker2d_randparams', marks=_SLOW),
  pytest.param('humanoid_direc', marks=_SLOW),
  pytest.param('slim_humanoid', marks=_SLOW),
)
_STATES = 60
_BATCH = 20
_SOLVER_LIMITS = ('iterations', 'ls_iterations', 'tolerance', 'ls_tolerance')
# Least share of the states in which something touches.
_TOUCHING = {'half_cheetah_pier': 0.2}


class Inputs(NamedTuple):
  """Of steps, each of a task of its own; leaves [B, ...]."""

  task: families.Task
  qpos: np.ndarray
  qvel: np.ndarray
  action: np.ndarray


class Outputs(NamedTuple):
  """Of these steps."""

  qpos: np.ndarray
  qvel: np.ndarray
  obs: np.ndarray
  next_obs: np.ndarray
  reward: np.ndarray
  done: np.ndarray


@functools.cache
def _family_in(name, precise):
  del precise  # What a family holds on the device has the precision of then.
  return envs.family(name)


def _family(name):
  return _family_in(name, jax.config.jax_enable_x64)


@functools.cache
def _program(name, precise):
  """`Inputs` of `_STATES` rows -> `Outputs`, by MJX."""
  family = _family_in(name, precise)

  def step(inputs):
    world = family.world(inputs.task, family.prepare(inputs.task))
    data = world.data(inputs.qpos, inputs.qvel)
    obs, data = world.observe(data), world.advance(data, inputs.action)
    next_obs = world.observe(data)
    reward = world.reward(obs, inputs.action, next_obs)
    done = world.done(next_obs)
    return Outputs(data.qpos, data.qvel, obs, next_obs, reward, done)

  return jax.jit(lambda inputs: jax.lax.map(step, inputs, batch_size=_BATCH))


def _run(name, inputs):
  """Of at most `_STATES` rows; the first ones fill up."""
  rows = len(inputs.qpos)
  index = np.arange(_STATES) % rows
  filled = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], inputs)
  outputs = _program(name, jax.config.jax_enable_x64)(filled)
  return jax.tree.map(lambda leaf: np.asarray(leaf)[:rows], outputs)


def _stack(rows):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _body(name, model, task):
  """Changes MuJoCo's model, in place, to that of a task."""
  if name in ('half_cheetah_mass_damping', 'slim_humanoid'):
    model.body_mass *= task.mass
    model.dof_damping *= task.damping
  elif name == 'half_cheetah_pier':
    # 14 kg / 2.931 kg, which is (21.184 + 80) / 21.184, to five digits.
    model.dof_damping[9:] = task * 4.7764
  elif name == 'ant_crippled_leg':
    leg = int(np.argmax(task))
    first = 2 * ((leg + 1) % 4)
    model.actuator_gear[first : first + 2] = 0
    thigh, shin = 3 + 3 * leg, 4 + 3 * leg
    model.geom_size[[thigh, shin]] /= 2
    model.geom_pos[shin] = model.geom_pos[thigh]
  elif name == 'walker2d_randparams':
    model.body_mass[1:] *= task.mass
    model.body_inertia[1:] *= task.inertia[:, None]
    model.dof_damping[3:] *= task.damping
    model.geom_friction *= task.friction[:, None]


def _model(name, task):
  model = mujoco.MjModel.from_xml_path(
    str(mjx.ASSETS / _family(name).nominal.asset)
  )
  defaults = mujoco.MjOption()
  for limit in _SOLVER_LIMITS:
    setattr(model.opt, limit, getattr(defaults, limit))
  _body(name, model, task)
  mujoco.mj_setConst(model, mujoco.MjData(model))
  return model


def _center(model, data):
  """The centre of mass of all but the pier, from fresh kinematics."""
  mujoco.mj_kinematics(model, data)
  ours = [i for i in range(1, model.nbody) if 'block' not in model.body(i).name]
  mass = model.body_mass[ours]
  return mass @ data.xipos[ours] / mass.sum()


def _observe(name, model, data, speed):
  """The observation by the table in `docs/environments.md`."""
  qpos, qvel = data.qpos, data.qvel
  if name == 'half_cheetah_mass_damping':
    return np.concatenate([[speed], qpos[1:], qvel])
  if name == 'half_cheetah_pier':
    return np.concatenate([qpos[1:9], qvel[:9], _center(model, data)])
  if name == 'ant_crippled_leg':
    center = _center(model, data)
    return np.concatenate([qpos, qvel, data.xmat[1], center])
  if name == 'slim_humanoid':
    return np.concatenate([qpos[2:], qvel])
  if name == 'walker2d_randparams':
    return np.concatenate([qpos[1:], np.clip(qvel, -10, 10), [speed]])
  hidden = 1 if name == 'half_cheetah_fwd_bwd' else 2
  return np.concatenate([qpos[hidden:], qvel, [speed]])


def _judge(name, task, before, after, speed, action):
  """Reward and done by the table; `before` and `after` are (qpos, qvel)."""
  effort = np.sum(action**2)
  height = after[0][1 if name.startswith(('half', 'walker')) else 2]
  if name == 'half_cheetah_fwd_bwd':
    return task * speed - 0.05 * effort, False
  if name == 'half_cheetah_mass_damping':
    return speed - 0.1 * effort, False
  if name == 'half_cheetah_pier':
    return speed - 0.05 * effort, False
  if name == 'ant_fwd_bwd':
    return task * speed - 0.5 * effort + 1, not 0.2 <= height <= 1
  if name == 'ant_crippled_leg':
    return speed + 0.05, False
  if name == 'walker2d_randparams':
    healthy = 0.8 < height < 2 and abs(after[0][2]) < 1
    return speed + 1 - 1e-3 * effort, not healthy
  effort *= 0.4**2
  upright = 1 <= height <= 2
  if name == 'humanoid_direc':
    return 1.25 * task * speed - 0.1 * effort + 5, not upright
  forward = before[1][0]
  return 0.25 / 0.015 * forward - 0.1 * effort + 5 * upright, False


def _position(name, model, data):
  """The x whose change over a step is paid, after it."""
  if name == 'ant_fwd_bwd':  # Where Gymnasium measures it.
    return data.xpos[1, 0] if data.time else data.qpos[0]
  if name in ('half_cheetah_pier', 'ant_crippled_leg', 'humanoid_direc'):
    return _center(model, data)[0]
  return data.qpos[0]


def _reference(name, task, rng):
  """A step of MuJoCo with a task's body; and whether anything touched."""
  env, model = _family(name).nominal, _model(name, task)
  data = mujoco.MjData(model)
  low, high = model.actuator_ctrlrange.T

  def advance(action):
    data.ctrl[:] = low + (high - low) * (action + 1) / 2
    touching = False
    for _ in range(env.frame_skip):
      mujoco.mj_step(model, data)
      touching |= data.ncon > 0
    return touching

  data.qpos[:] += rng.uniform(-0.01, 0.01, model.nq)
  for _ in range(rng.integers(1, 60)):
    advance(rng.uniform(-1, 1, model.nu))
  state = data.qpos, data.qvel, rng.uniform(-1, 1, model.nu)
  *state, action = (np.float64(np.float32(x)) for x in state)
  mujoco.mj_resetData(model, data)  # Clears the warm start, too.
  data.qpos[:], data.qvel[:] = state
  position = _position(name, model, data)
  speed = data.qvel[0]
  obs = _observe(name, model, data, speed)
  touching = advance(action)
  speed = (_position(name, model, data) - position) / env.dt
  next_obs = _observe(name, model, data, speed)
  after = data.qpos.copy(), data.qvel.copy()
  judged = _judge(name, task, state, after, speed, action)
  return (
    Inputs(task, *state, action),
    Outputs(*after, obs, next_obs, *map(np.float64, judged)),
    touching,
  )


def _steps(name):
  """Steps from random states, each of a task of its own: ours and MuJoCo's."""
  family, rng = _family(name), np.random.default_rng(0)
  keys = jax.random.split(jax.random.PRNGKey(0), _STATES)
  tasks = jax.tree.map(
    np.array,
    jax.vmap(lambda key: family.sample_task(key))(keys),
  )
  if name == 'ant_crippled_leg':
    tasks[::4] = family.test_tasks()[0]
  rows = [
    _reference(name, families.at(tasks, row), rng) for row in range(_STATES)
  ]
  inputs, expected, touching = map(_stack, zip(*rows, strict=True))
  assert touching.mean() >= _TOUCHING.get(name, 1 / 3)
  found = _run(name, inputs)
  print(f'{name}: {touching.mean():.0%} touching, {expected.done.mean():.0%}')
  for part, value in found._asdict().items():
    error = np.abs(value - getattr(expected, part))
    print(part, *(f'{x:.1e}' for x in np.quantile(error, (0.5, 0.9, 1))))
  return found, expected


@pytest.mark.parametrize('name', _NAMES)
def test_a_step_is_mujocos_with_the_body_of_the_task(name, x64):
  """Reward, termination and observations are those of the table, by NumPy."""
  found, expected = _steps(name)
  for part, value in found._asdict().items():
    right = getattr(expected, part)
    largest = np.max(np.abs(right))
    assert np.all(np.abs(value - right) <= 1e-9 * (1 + largest)), part


@_SLOW
@pytest.mark.parametrize('name', ['half_cheetah_pier', 'slim_humanoid'])
def test_a_step_in_single_precision(name):
  """The bodies that no other test has; limits as in `test_mjx_fidelity.py`."""
  found, expected = _steps(name)
  assert np.all(np.abs(found.qpos - expected.qpos) <= 1e-5)
  for part, limit in (('qvel', 1e-3), ('reward', 1e-3)):
    right = getattr(expected, part)
    error = np.abs(getattr(found, part) - right)
    assert np.all(error <= limit * (1 + np.abs(right))), part
  assert np.median(np.abs(found.qvel - expected.qvel)) <= 1e-4


def _still(name, rows):
  """Inputs at rest; the caller fills in the rest, whose leaves are [rows]."""
  model = _family(name).nominal.mj_model
  tile = functools.partial(np.tile, reps=(rows, 1))
  return (tile(model.qpos0), tile(np.zeros(model.nv)), tile(np.zeros(model.nu)))


@pytest.mark.parametrize('name', ['half_cheetah_mass_damping', 'slim_humanoid'])
@_SLOW
def test_the_heavier_accelerate_less_and_the_damped_swing_less(name, x64):
  """At rest in the air, pulled by every motor: not by gravity."""
  qpos, qvel, action = _still(name, 4)
  qpos[:, 2 - name.startswith('half')] += 1.0
  factors = np.array([[0.8, 1], [1.2, 1], [1, 0.8], [1, 1.2]])
  task = mass_damping.Task(*factors.T)
  pushed = _run(name, Inputs(task, qpos, qvel, action + 0.3))
  spun = _run(name, Inputs(task, qpos, qvel + 1.0, action))
  root = 3 if name.startswith('half') else 6
  light, heavy = np.linalg.norm(pushed.qvel[:2, root:], axis=1)
  assert heavy < 0.99 * light
  free, damped = np.linalg.norm(spun.qvel[2:, root:], axis=1)
  assert damped < 0.99 * free


@_SLOW
def test_the_piers_damping_matters(x64):
  """A block that moves is slowed by its own damping, and by no other."""
  name = 'half_cheetah_pier'
  qpos, qvel, action = _still(name, 3)
  qpos[:, 1] += 5.0
  qvel[:, 9:] = -1.0
  task = np.full((3, 8), 5.0)
  task[1], task[2, 4] = 0.0, 10.0
  after = _run(name, Inputs(task, qpos, qvel, action)).qvel[:, 9:]
  assert np.all(after[1] < after[0] - 1e-3)
  assert after[2, 4] > after[0, 4] + 1e-3
  np.testing.assert_allclose(np.delete(after[2], 4), np.delete(after[0], 4))


def test_the_cheetah_has_its_14_kg_and_the_pier_beside_them():
  model = envs.family('half_cheetah_pier').nominal.mj_model
  np.testing.assert_allclose(model.body_subtreemass[1], 14, rtol=1e-6)
  blocks = model.body_mass[-8:]
  # As heavy beside the cheetah as in Learning to Adapt, as stiff for its mass.
  np.testing.assert_allclose(blocks, 14 * 10 / 21.184, rtol=1e-4)
  stiffness = model.jnt_stiffness[-8:]
  np.testing.assert_allclose(stiffness / blocks, 150 / 1.3836, rtol=1e-4)
  np.testing.assert_allclose(
    model.dof_damping[-8:] / blocks, 5 / 1.3836, rtol=1e-4
  )


@_SLOW
def test_the_crippled_legs_actuators_do_nothing(x64):
  """In the air; and its shin is too short to reach the ground."""
  name = 'ant_crippled_leg'
  family = _family(name)
  names = [family.nominal.mj_model.actuator(i).name for i in range(8)]
  motors = [
    [names.index(f'{joint}_{leg + 1}') for joint in ('hip', 'ankle')]
    for leg in range(4)
  ]
  qpos, qvel, action = _still(name, 12)
  qpos[:, 2] = 2.0
  task = np.tile(np.eye(4), (3, 1))
  for leg in range(4):
    action[4 + leg, motors[leg]] = 1.0
    action[8 + leg, motors[(leg + 1) % 4]] = 1.0
  after = _run(name, Inputs(task, qpos, qvel, action)).qvel
  np.testing.assert_array_equal(after[4:8], after[:4])
  assert np.all(np.abs(after[8:] - after[:4]).max(1) > 0.1)


@_SLOW
def test_friction_and_inertia_of_the_walker_are_its_own(x64):
  """The effect of each kind of factor alone, on a walker that slides."""
  name = 'walker2d_randparams'
  family = _family(name)
  qpos, qvel, action = _still(name, 5)
  qpos[:, 1] -= 0.05  # Toes and heels on the ground.
  qvel[:, 0], qvel[:, 5] = 3.0, 2.0
  unit = jax.tree.map(np.ones_like, family.trained_range()[1])
  tasks = [unit] + [
    unit._replace(**{part: 2 * getattr(unit, part)}) for part in unit._fields
  ]
  after = _run(name, Inputs(_stack(tasks), qpos, qvel, action)).qvel
  for row, part in enumerate(unit._fields, 1):
    assert np.abs(after[row] - after[0]).max() > 1e-3, part
  assert after[4, 0] < after[0, 0]  # More friction.


def _grid(factors):
  return {(round(m, 6), round(c, 6)) for m in factors for c in factors}


@pytest.mark.parametrize('name', ['half_cheetah_mass_damping', 'slim_humanoid'])
def test_task_sets_of_masses_and_damping(name):
  family = envs.family(name)
  keys = jax.random.split(jax.random.PRNGKey(0), 600)

  def rows(tasks):
    return {
      (round(float(m), 6), round(float(c), 6))
      for m, c in zip(tasks.mass, tasks.damping, strict=True)
    }

  train = _grid((0.8, 0.9, 1.0, 1.1, 1.2))
  test = _grid((0.85, 0.95, 1.05, 1.15))
  assert rows(jax.jit(jax.vmap(family.sample_task))(keys)) == train
  tasks = family.test_tasks()
  assert rows(tasks) == test and families.count(tasks) == 16
  drawn = jax.jit(jax.vmap(lambda key: family.sample_task(key, 'test')))(keys)
  assert rows(drawn) == test
  assert not families.outside_trained_range(family, tasks)
  assert family.describe(families.at(tasks, 1)) == 'mass x0.85, damping x0.95'


@pytest.mark.parametrize(
  ('name', 'low', 'high', 'in_log'),
  [
    ('half_cheetah_pier', 0.0, 10.0, False),
    ('walker2d_randparams', 1.5**-3, 1.5**3, True),
  ],
)
def test_ranges_of_tasks_that_are_drawn(name, low, high, in_log):
  family = envs.family(name)
  keys = jax.random.split(jax.random.PRNGKey(0), 500)
  tasks = jax.jit(jax.vmap(family.sample_task))(keys)
  leaves = list(tasks) if in_log else [tasks]
  if in_log:
    leaves[2] = leaves[2] ** (np.log(1.5) / np.log(1.3))
    leaves, low, high = map(np.log, leaves), np.log(low), np.log(high)
  for leaf in leaves:
    place = (np.asarray(leaf) - low) / (high - low)
    assert np.all((place >= -1e-5) & (place <= 1 + 1e-5))
    np.testing.assert_allclose(place.mean(0), 0.5, atol=0.06)
    np.testing.assert_allclose(place.std(0), 12**-0.5, atol=0.03)
    np.testing.assert_allclose(
      np.corrcoef(place.T), np.eye(place.shape[1]), atol=0.2
    )
  assert families.count(family.test_tasks()) == 20
  assert not families.outside_trained_range(family, family.test_tasks())
  assert family.describe(families.at(family.test_tasks(), 0))


def test_three_legs_are_trained_on_and_the_fourth_is_the_test():
  family = envs.family('ant_crippled_leg')
  keys = jax.random.split(jax.random.PRNGKey(0), 200)
  legs = np.asarray(jax.vmap(family.sample_task)(keys))
  np.testing.assert_allclose(legs.mean(0), [1 / 3, 1 / 3, 1 / 3, 0], atol=0.1)
  assert np.all(legs.sum(1) == 1)
  np.testing.assert_array_equal(family.test_tasks(), [[0, 0, 0, 1]])
  line = families.warning_outside(family, family.test_tasks())
  assert line is not None and line.endswith('back right leg crippled')
  assert len(ant_crippled_leg.LEGS) == 4


@pytest.mark.parametrize(
  'name', ['half_cheetah_fwd_bwd', 'ant_fwd_bwd', 'humanoid_direc']
)
def test_directions_turn_round_within_the_episode(name):
  env = envs.make(name)
  assert (env.schedule, env.switch_period) == ('switch', 300)
  assert not env.reward_is_known and env.done_is_known
  family = env.family
  np.testing.assert_array_equal(family.test_tasks(), [-1, 1])
  drawn = jax.vmap(family.sample_task)(
    jax.random.split(jax.random.PRNGKey(0), 400)
  )
  assert abs(np.mean(drawn)) < 0.2 and set(np.asarray(drawn)) == {-1, 1}
  task = jnp.asarray(1.0)
  assert family.next_task(jax.random.PRNGKey(0), task) == -1
  assert [family.describe(d) for d in (task, -task)] == ['forward', 'backward']

  told = envs.make(name, tell_task=True)
  rng = np.random.default_rng(0)
  obs = rng.normal(size=(6, env.observation_size)) + 1
  action = rng.uniform(-1, 1, (6, env.action_size))
  for d in (1.0, -1.0):
    with_task = np.concatenate([obs, np.full((6, 1), d)], 1)
    expected = [
      _judge(name, d, None, _heights(name, row), row[-1], act)[0]
      for row, act in zip(obs, action, strict=True)
    ]
    found = told.reward(*map(jnp.asarray, (with_task, action, with_task)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def _heights(name, obs):
  """A physics state (qpos, qvel) of these heights."""
  hidden = 1 if name.startswith('half') else 2
  return np.concatenate([np.zeros(hidden), obs]), None


def test_the_body_that_humanoids_share_is_gymnasiums():
  """But for what may touch, integrator and solver."""
  assets = pathlib.Path(gymnasium.__file__).parent / 'envs/mujoco/assets'
  theirs = mujoco.MjModel.from_xml_path(str(assets / 'humanoid.xml'))
  ours = envs.family('slim_humanoid').nominal.mj_model
  prefixes = ('body_', 'jnt_', 'dof_', 'geom_', 'actuator_', 'qpos')
  ours_alone = (
    *('contype', 'conaffinity', 'condim', 'matid', 'user', 'rgba'),
    *('bvhadr', 'bvhnum'),
  )
  for name in dir(theirs):
    if name.startswith(prefixes) and not name.endswith(ours_alone):
      np.testing.assert_allclose(
        getattr(ours, name),
        getattr(theirs, name),
        rtol=1e-12,
        atol=1e-12,
        err_msg=name,
      )
  assert ours.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON
