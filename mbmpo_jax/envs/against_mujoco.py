"""Compares MJX's physics with MuJoCo's, step by step.

Features that MJX is known to ignore are rejected when a file is loaded
(`mjx_fields.py`). This comparison finds differences that are not known.
"""

import copy
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import mjx_fields
from mbmpo_jax.envs import physics

STEPS = 20
# Relative to the largest speed of the run; far larger than rounding errors and
# far smaller than the effect of an ignored feature.
_TOLERANCE = 0.01
_PERTURBED = 3
_SPREAD = 50.0

# Fields of the physics state, and the external inputs.
_STATE = (
  'qpos', 'qvel', 'act', 'qacc_warmstart', 'mocap_pos', 'mocap_quat',
  'qfrc_applied', 'xfrc_applied', 'eq_active', 'time',
)  # fmt: skip
# Shapes for which MJX has its own collision algorithms.
_CONVEX = frozenset(
  int(getattr(mujoco.mjtGeom, f'mjGEOM_{name}'))
  for name in ('BOX', 'MESH', 'ELLIPSOID', 'CYLINDER', 'HFIELD', 'SDF')
)


class Difference(NamedTuple):
  """The first step in which MuJoCo and MJX differ."""

  text: str  # one line: which joint, when, and by how much
  contacts: str  # a contact of convex shapes at that step, or ''


def first_difference(
  env: mjx.MjxEnvironment, *, seed: int = 0
) -> Difference | None:
  """Compares 20 random steps of MJX with MuJoCo, each from the same state.

  Velocities must agree to 1% of the largest velocity of the run. A larger error
  is allowed where a contact opens or closes: up to 50 times the effect of
  perturbing the state by the rounding error of single precision. Compiles one
  step.

  Args:
    env: an environment simulated by MJX; a subclass's `advance` is not used.
    seed: of the reset and the actions.

  Returns:
    The first difference, or `None`.
  """
  state_key, action_key = jax.random.split(jax.random.PRNGKey(seed))
  actions = jax.random.uniform(
    action_key, (STEPS, env.action_size), minval=-1.0, maxval=1.0
  )

  def step(data: mujoco_mjx.Data, action: jax.Array) -> Any:
    after = mjx.MjxEnvironment.advance(env, data, action)
    before = {name: getattr(data, name) for name in _STATE}
    return after, (before, after.ctrl, after.qvel)

  start = jax.eval_shape(env.initial_state, state_key)
  if not isinstance(start, mujoco_mjx.Data):
    return None  # The subclass defines another state type.

  def run(key: jax.Array, actions: jax.Array) -> Any:
    return jax.lax.scan(step, env.initial_state(key), actions)[1]

  before, control, qvel = jax.tree.map(
    np.asarray, _quickly_compiled(run)(state_key, actions)
  )
  model = _same_physics(env)
  data = mujoco.MjData(model)
  rng = np.random.default_rng(seed)
  scale = max(np.max(np.abs(qvel), initial=0.0), 1e-12)
  for t in range(STEPS):
    state = {name: values[t] for name, values in before.items()}
    expected = _stepped(model, data, state, control[t], env.frame_skip)
    touching = _convex_contacts(model, data)
    spread = np.zeros(model.nv)
    for _ in range(_PERTURBED):
      moved = _perturbed(rng, state)
      other = _stepped(model, data, moved, control[t], env.frame_skip)
      spread = np.maximum(spread, np.abs(other - expected))
    error = np.abs(qvel[t] - expected)
    wrong = ~(error <= _TOLERANCE * scale + _SPREAD * spread)
    if wrong.any():
      dof = int(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), 0)))
      joint = mjx_fields.name_of(model, 'joint', int(model.dof_jntid[dof]))
      return Difference(
        f'the velocity of joint {joint} after step {t + 1} is'
        f' {qvel[t][dof]:.4g} in MJX and {expected[dof]:.4g} in MuJoCo',
        touching,
      )
  return None


def _quickly_compiled(run: Any) -> Any:
  """Compiles without optimisation on a CPU, because the function runs once."""
  options = None
  if jax.default_backend() == 'cpu':
    options = {'xla_backend_optimization_level': 0}
  return jax.jit(run, compiler_options=options)


def physics_of(env: Any) -> mjx.MjxEnvironment | None:
  """Returns the environment that MJX simulates, within wrappers, or `None`.

  Args:
    env: an environment from an MJCF file, a randomised one, or one of a task
      family.
  """
  while env is not None and not isinstance(env, mjx.MjxEnvironment):
    family = getattr(env, 'family', None)
    env = getattr(env, 'wrapped', getattr(family, 'nominal', None))
  if env is None or env.engine != 'mjx':
    return None
  return env


def _same_physics(env: mjx.MjxEnvironment) -> mujoco.MjModel:
  """Returns the host's model with the device model's physical parameters."""
  model = copy.copy(env.mj_model)
  for name in physics.Physics._fields:
    getattr(model, name)[:] = np.asarray(getattr(env.model, name))
  return model


def _stepped(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  state: dict[str, np.ndarray],
  control: np.ndarray,
  frame_skip: int,
) -> np.ndarray:
  """Returns MuJoCo's velocities [nv] after one step of the environment."""
  mujoco.mj_resetData(model, data)
  for name, value in state.items():
    if name == 'time':
      data.time = float(value)
    else:
      getattr(data, name)[:] = value
  data.ctrl[:] = control
  for _ in range(frame_skip):
    mujoco.mj_step(model, data)
  return np.array(data.qvel)


def _perturbed(
  rng: np.random.Generator, state: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  rounding = float(np.finfo(np.float32).eps)
  return {
    **state,
    **{
      name: state[name]
      + rounding
      * (1 + abs(state[name]))
      * rng.choice([-1, 1], state[name].shape)
      for name in ('qpos', 'qvel', 'act')
    },
  }


def _convex_contacts(model: mujoco.MjModel, data: mujoco.MjData) -> str:
  """Names the first contact that involves a convex shape, or ''."""
  for contact in data.contact:
    kinds = {int(model.geom_type[i]) for i in contact.geom}
    if kinds & _CONVEX:
      return ' with '.join(
        f'geom {mjx_fields.name_of(model, "geom", int(i))}'
        for i in contact.geom
      )
  return ''
