"""MJX against MuJoCo itself: the same body, the same step.

Each error is printed; `pytest -rP` or `-s` shows the tables.
"""

import copy
import pathlib
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx as mujoco_mjx

from mbmpo_jax import envs
from mbmpo_jax.envs import mjx

# The environments simulated by MJX; a new one joins here, its task in `_judge`.
# Those of task families are held to MuJoCo in `test_mjx_families.py`.
_NAMES = (
  'half_cheetah',
  pytest.param('swimmer', marks=pytest.mark.slow),
  pytest.param('pr2_reacher', marks=pytest.mark.slow),
  pytest.param('hopper', marks=pytest.mark.slow),
  pytest.param('walker2d', marks=pytest.mark.slow),
  pytest.param('ant', marks=pytest.mark.slow),
)
# Least share of the states in which something touches, by default a third.
_TOUCHING = {'swimmer': 0.0, 'pr2_reacher': 0.0}
# Small: jaxlib 0.10's parallel LAPACK can deadlock on a CPU with few cores.
_BATCH = 20
_SOLVER_LIMITS = ('iterations', 'ls_iterations', 'tolerance', 'ls_tolerance')

_GYMNASIUM_ASSETS = (
  pathlib.Path(gymnasium.__file__).parent / 'envs' / 'mujoco' / 'assets'
)


class Steps(NamedTuple):
  """Environment steps from states `[B, ...]`, all representable in float32."""

  qpos: np.ndarray
  qvel: np.ndarray
  mocap_pos: np.ndarray
  action: np.ndarray
  next_qpos: np.ndarray  # by MuJoCo, the solver at MuJoCo's defaults
  next_qvel: np.ndarray
  reward: np.ndarray  # [B], by `_judge`
  done: np.ndarray  # [B]
  touching: np.ndarray  # [B] bool, whether anything touched during the step


class Errors(NamedTuple):
  """Absolute errors of MJX's steps."""

  qpos: np.ndarray  # [B, nq]
  qvel: np.ndarray  # [B, nv]
  reward: np.ndarray  # [B]
  done: np.ndarray  # [B]


def _judge(
  name: str, data: mujoco.MjData, action: np.ndarray
) -> tuple[float, bool]:
  """Reward and done of MuJoCo's state after a step, as the table defines them.

  `docs/environments.md`, the default variants, in plain Python.
  """
  effort = float(np.sum(action**2))
  z, angle = data.qpos[1:3]
  forward = data.qvel[0]
  if name == 'half_cheetah':
    return forward - 0.1 * effort, False
  if name == 'swimmer':
    return forward - 1e-4 * effort, False
  if name == 'hopper':
    rest = [*data.qpos[2:], *data.qvel]
    healthy = z > 0.7 and abs(angle) < 0.2 and max(map(abs, rest)) < 100
    return min(max(forward, -10), 10) + 1 - 1e-3 * effort, not healthy
  if name == 'walker2d':
    healthy = 0.8 < z < 2 and abs(angle) < 1
    return min(max(forward, -10), 10) + 1 - 1e-3 * effort, not healthy
  if name == 'ant':
    return forward + 1 - 0.005 * effort, not 0.2 <= data.qpos[2] <= 1
  if name == 'pr2_reacher':
    tool = data.site('tool').xpos
    return -np.sum((tool - data.mocap_pos[0]) ** 2) - 0.05 * effort, False
  raise NotImplementedError(name)


def _with_default_solver(model: mujoco.MjModel) -> mujoco.MjModel:
  model = copy.deepcopy(model)
  defaults = mujoco.MjOption()
  for name in _SOLVER_LIMITS:
    setattr(model.opt, name, getattr(defaults, name))
  return model


def _reference_steps(
  name: str,
  env: mjx.MjxEnvironment,
  num_states: int,
  *,
  violent: bool = False,
) -> Steps:
  """Steps of MuJoCo along random rollouts, each without a warm start.

  Args:
    name: of the environment, for its task.
    env: the environment whose body, resets and frame skip are used.
    num_states: how many; a rollout of random length leads to each, through
      resets where episodes end.
    violent: whether the rollouts' actions are -1 or 1, not uniform between.
  """
  model = _with_default_solver(env.mj_model)
  data = mujoco.MjData(model)
  rng = np.random.default_rng(0)
  low, high = model.actuator_ctrlrange.T
  starts = jax.vmap(env.initial_state)(
    jax.random.split(jax.random.PRNGKey(0), num_states)
  )
  starts = [np.asarray(x) for x in (starts.qpos, starts.qvel, starts.mocap_pos)]

  def random_action() -> np.ndarray:
    action = rng.uniform(-1, 1, model.nu)
    return np.sign(action) if violent else action

  def reset(qpos: np.ndarray, qvel: np.ndarray, mocap_pos: np.ndarray) -> None:
    mujoco.mj_resetData(model, data)  # Clears the warm start, too.
    data.qpos[:], data.qvel[:], data.mocap_pos[:] = qpos, qvel, mocap_pos

  def advance(action: np.ndarray) -> tuple[float, bool, bool]:
    data.ctrl[:] = low + (high - low) * (action + 1) / 2
    touching = False
    for _ in range(env.frame_skip):
      mujoco.mj_step(model, data)
      touching |= data.ncon > 0
    mujoco.mj_kinematics(model, data)  # Sites are those before the step.
    return *_judge(name, data, action), touching

  steps = []
  for start in zip(*starts, strict=True):
    reset(*start)
    for _ in range(rng.integers(100)):
      if advance(random_action())[1]:
        reset(*start)
    state = (data.qpos, data.qvel, data.mocap_pos, random_action())
    state = [np.float64(np.float32(x)) for x in state]
    reset(*state[:3])
    reward, done, touching = advance(state[3])
    after = data.qpos.copy(), data.qvel.copy()
    steps.append(Steps(*state, *after, reward, done, touching))
  return Steps(*map(np.stack, zip(*steps, strict=True)))


def _errors(env: mjx.MjxEnvironment, steps: Steps) -> Errors:
  """Of one environment step by MJX; printed as a table."""

  def step(inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    qpos, qvel, mocap_pos, action = inputs
    data = env.data(qpos, qvel).replace(mocap_pos=mocap_pos)
    obs, data = env.observe(data), env.advance(data, action)
    next_obs = env.observe(data)
    reward = env.reward(obs, action, next_obs)
    return data.qpos, data.qvel, reward, env.done(next_obs)

  inputs = tuple(map(jnp.asarray, steps[:4]))
  outputs = jax.jit(lambda x: jax.lax.map(step, x, batch_size=_BATCH))(inputs)
  assert {x.dtype for x in outputs} == {jnp.zeros(()).dtype}
  expected = (steps.next_qpos, steps.next_qvel, steps.reward, steps.done)
  errors = Errors(
    *(np.abs(x - y) for x, y in zip(outputs, expected, strict=True))
  )
  print(f'{type(env).__name__}, {outputs[0].dtype}, {len(inputs[0])} states,')
  print(f'{steps.touching.mean():.0%} touching, {steps.done.mean():.0%} done:')
  print(f'{"":6}  {"median":>8}  {"90%":>8}  {"99%":>8}  {"largest":>8}')
  for name, error in errors._asdict().items():
    quantiles = np.quantile(error, (0.5, 0.9, 0.99, 1.0))
    print(f'{name:6}', *(f'{value:8.1e}' for value in quantiles), sep='  ')
  return errors


@pytest.mark.parametrize('name', _NAMES)
def test_float32(name):
  """One step of the environment as it is used.

  The largest errors are single precision's, where a contact opens or closes
  within the step: at MuJoCo's own solver limits they are the same, and about
  one state in a thousand has one above 1e-5 in position.
  """
  env = envs.make(name)
  steps = _reference_steps(name, env, 100)
  assert steps.touching.mean() >= _TOUCHING.get(name, 1 / 3)

  errors = _errors(env, steps)

  assert np.all(errors.qpos <= 1e-5)
  assert np.all(errors.qvel <= 1e-3 * (1 + np.abs(steps.next_qvel)))
  assert np.median(errors.qvel) <= 1e-4
  assert np.all(errors.reward <= 1e-3 * (1 + np.abs(steps.reward)))
  assert not np.any(errors.done)
  # The ant does not leave its heights by random actions.
  assert np.any(steps.done) == (name in ('hopper', 'walker2d'))


@pytest.mark.slow
@pytest.mark.parametrize('name', _NAMES)
def test_float64_at_default_solver_limits(name, x64):
  """In double precision MJX and MuJoCo are the same simulator."""
  env = envs.make(name)
  env.model = mujoco_mjx.put_model(_with_default_solver(env.mj_model))

  errors = _errors(env, _reference_steps(name, env, 100))

  assert all(np.all(error <= 1e-9) for error in errors)


@pytest.mark.slow
@pytest.mark.parametrize('name', _NAMES)
def test_float64_at_solver_limits_in_use(name, x64):
  """The limits stop no solve that MuJoCo's own would not.

  Only a few solves in a thousand are hard enough to tell, hence many states, of
  violent rollouts; in one in some thousands MuJoCo itself stops a little early.
  """
  env = envs.make(name)

  errors = _errors(env, _reference_steps(name, env, 600, violent=True))

  assert np.count_nonzero(np.any(errors.qpos > 1e-9, axis=1)) <= 1
  assert np.count_nonzero(np.any(errors.qvel > 1e-9, axis=1)) <= 1


@pytest.mark.parametrize(
  ('name', 'their_name'),
  [
    ('ant', 'ant'),
    ('half_cheetah', 'half_cheetah'),
    ('hopper', 'hopper'),
    ('inverted_pendulum', 'inverted_pendulum'),
    ('reacher', 'reacher'),
    ('swimmer', 'swimmer'),
    ('walker2d', 'walker2d_v5'),
  ],
)
def test_bodies_are_gymnasiums(name, their_name, tmp_path, monkeypatch):
  """Everything physical that MuJoCo compiles is equal, to rounding."""
  monkeypatch.chdir(tmp_path)  # MuJoCo logs Gymnasium's deprecated attributes.
  ours = mujoco.MjModel.from_xml_path(str(mjx.ASSETS / f'{name}.xml'))
  assert not list(tmp_path.iterdir()), 'our file gives a warning'
  theirs = mujoco.MjModel.from_xml_path(
    str(_GYMNASIUM_ASSETS / f'{their_name}.xml')
  )

  # What is drawn is ours, as are names, padding and how long the solver runs.
  prefixes = ('body_', 'jnt_', 'dof_', 'geom_', 'actuator_', 'qpos', 'exclude_')
  unphysical = ('geom_matid', 'geom_rgba', 'geom_user')
  names = [
    name
    for name in dir(theirs)
    if name.startswith(prefixes) and name not in unphysical
  ]
  assert {'body_mass', 'geom_contype', 'actuator_gear'} <= set(names)
  for name in names:
    np.testing.assert_allclose(
      getattr(ours, name),
      getattr(theirs, name),
      rtol=1e-12,
      atol=1e-12,
      err_msg=name,
    )
  for name in dir(theirs.opt):
    if not name.startswith('_') and name not in _SOLVER_LIMITS:
      np.testing.assert_array_equal(
        getattr(ours.opt, name), getattr(theirs.opt, name), err_msg=name
      )
