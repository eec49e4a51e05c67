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

# The environments simulated by MJX; a new one joins here.
_NAMES = ('half_cheetah',)
_NUM_STATES = 100
_SOLVER_LIMITS = ('iterations', 'ls_iterations', 'tolerance', 'ls_tolerance')

_GYMNASIUM_ASSETS = (
  pathlib.Path(gymnasium.__file__).parent / 'envs' / 'mujoco' / 'assets'
)


class Steps(NamedTuple):
  """Environment steps from states `[B, ...]`, all representable in float32."""

  qpos: np.ndarray
  qvel: np.ndarray
  action: np.ndarray
  next_qpos: np.ndarray  # by MuJoCo, the solver at MuJoCo's defaults
  next_qvel: np.ndarray
  touching: np.ndarray  # [B] bool, whether anything touched during the step


def _with_default_solver(model: mujoco.MjModel) -> mujoco.MjModel:
  model = copy.deepcopy(model)
  defaults = mujoco.MjOption()
  for name in _SOLVER_LIMITS:
    setattr(model.opt, name, getattr(defaults, name))
  return model


def _reference_steps(env: mjx.MjxEnvironment) -> Steps:
  """Steps of MuJoCo along random rollouts, each without a warm start."""
  model = _with_default_solver(env.mj_model)
  data = mujoco.MjData(model)
  rng = np.random.default_rng(0)
  low, high = model.actuator_ctrlrange.T

  def advance(action: np.ndarray) -> bool:
    data.ctrl[:] = low + (high - low) * (action + 1) / 2
    touching = False
    for _ in range(env.frame_skip):
      mujoco.mj_step(model, data)
      touching |= bool(np.any(data.contact.dist < 0))
    return touching

  steps = []
  for _ in range(_NUM_STATES):
    mujoco.mj_resetData(model, data)
    data.qpos += rng.uniform(-0.1, 0.1, model.nq)
    data.qvel += 0.1 * rng.normal(size=model.nv)
    for _ in range(rng.integers(100)):
      advance(rng.uniform(-1, 1, model.nu))
    qpos, qvel, action = (
      np.float64(np.float32(x))
      for x in (data.qpos, data.qvel, rng.uniform(-1, 1, model.nu))
    )
    mujoco.mj_resetData(model, data)  # Clears the warm start, too.
    data.qpos[:], data.qvel[:] = qpos, qvel
    touching = advance(action)
    steps.append(
      Steps(qpos, qvel, action, data.qpos.copy(), data.qvel.copy(), touching)
    )
  return Steps(*map(np.stack, zip(*steps, strict=True)))


def _errors(
  env: mjx.MjxEnvironment, steps: Steps
) -> tuple[np.ndarray, np.ndarray]:
  """Absolute errors `[B, nq]`, `[B, nv]` of one environment step by MJX."""

  @jax.jit
  @jax.vmap
  def step(
    qpos: jax.Array, qvel: jax.Array, action: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    data = env.advance(env.data(qpos, qvel), action)
    return data.qpos, data.qvel

  qpos, qvel = step(*map(jnp.asarray, (steps.qpos, steps.qvel, steps.action)))
  assert qpos.dtype == qvel.dtype == jnp.zeros(()).dtype
  errors = np.abs(qpos - steps.next_qpos), np.abs(qvel - steps.next_qvel)
  print(f'{type(env).__name__}, {qpos.dtype}, {len(qpos)} states,', end=' ')
  print(f'{steps.touching.mean():.0%} touching; errors:')
  print(f'{"":4}  {"median":>8}  {"90%":>8}  {"99%":>8}  {"largest":>8}')
  for name, error in zip(('qpos', 'qvel'), errors, strict=True):
    quantiles = np.quantile(error, (0.5, 0.9, 0.99, 1.0))
    print(name, *(f'{value:8.1e}' for value in quantiles), sep='  ')
  return errors


@pytest.mark.parametrize('name', _NAMES)
def test_float32_at_the_solver_limits_in_use(name):
  """The solver may stop early only where nobody can tell.

  The largest error is that of single precision where a contact opens or closes
  within the step, not the solver's: at MuJoCo's own limits it is the same.
  """
  env = envs.make(name)
  steps = _reference_steps(env)
  assert steps.touching.mean() >= 1 / 3

  qpos_error, qvel_error = _errors(env, steps)

  assert np.all(qpos_error <= 1e-5)
  assert np.all(qvel_error <= 1e-3 * (1 + np.abs(steps.next_qvel)))
  assert np.median(qvel_error) <= 1e-4


@pytest.mark.parametrize('name', _NAMES)
def test_float64_at_default_solver_limits(name, x64):
  """In double precision MJX and MuJoCo are the same simulator."""
  env = envs.make(name)
  env.model = mujoco_mjx.put_model(_with_default_solver(env.mj_model))

  qpos_error, qvel_error = _errors(env, _reference_steps(env))

  assert np.all(qpos_error <= 1e-9)
  assert np.all(qvel_error <= 1e-9)


def test_half_cheetah_is_gymnasiums(tmp_path, monkeypatch):
  """Everything physical that MuJoCo compiles is equal, to rounding."""
  monkeypatch.chdir(tmp_path)  # MuJoCo logs Gymnasium's deprecated attribute.
  ours = mujoco.MjModel.from_xml_path(str(mjx.ASSETS / 'half_cheetah.xml'))
  assert not list(tmp_path.iterdir()), 'our file gives a warning'
  theirs = mujoco.MjModel.from_xml_path(
    str(_GYMNASIUM_ASSETS / 'half_cheetah.xml')
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
