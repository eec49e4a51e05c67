"""Environments from an MJCF file, simulated by MuJoCo's JAX engine."""

import pathlib
import warnings

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from mbmpo_jax.envs import actuators
from mbmpo_jax.envs import base
from mbmpo_jax.envs import contact
from mbmpo_jax.envs import kinematics
from mbmpo_jax.envs import mjcf
from mbmpo_jax.envs import quaternions
from mbmpo_jax.envs import tendons

ASSETS = pathlib.Path(__file__).parent / 'assets'


class MjxEnvironment(base.Environment):
  """Physics by `mujoco.mjx`; a subclass adds resets, observation and task.

  The action in [-1, 1] is mapped affinely to each actuator's control range; a
  warning says what is taken for the range of one that has none
  (`actuators.control_ranges`).

  Attributes:
    mj_model: the compiled MJCF, on the host, for rendering and for reference.
    model: the same on the device.
    frame_skip: physics steps of `mj_model.opt.timestep` per environment step.
    engine: the name of what simulates.
  """

  engine = 'mjx'

  def __init__(self, path: str | pathlib.Path, *, frame_skip: int) -> None:
    """Compiles the MJCF file at `path`.

    Raises:
      mjcf.MjcfError: if it cannot be simulated.
    """
    self.mj_model, self.model = mjcf.load(path)
    self.frame_skip = frame_skip
    self.dt = float(self.mj_model.opt.timestep) * frame_skip
    ranges, lines = actuators.control_ranges(self.mj_model)
    if lines:
      more = f' (and {len(lines) - 1} more)' if len(lines) > 1 else ''
      warnings.warn(f'{path}: {lines[0]}{more}', stacklevel=2)
    low, high = ranges.T
    self._control_center = jnp.asarray((low + high) / 2, float)
    self._control_scale = jnp.asarray((high - low) / 2, float)

  def advance(self, pipeline_state: mjx.Data, action: jax.Array) -> mjx.Data:
    """`frame_skip` physics steps under one control."""
    control = self._control_center + self._control_scale * action
    data = pipeline_state.replace(ctrl=control)

    def substep(data: mjx.Data, _: None) -> tuple[mjx.Data, None]:
      return mjx.step(self.model, data), None

    # TF32 products wreck the constraint solver on GPUs.
    with (
      jax.default_matmul_precision('highest'),
      contact.capsule_frames(),
      kinematics.unfused_chains(),
      tendons.same_types(),
    ):
      return jax.lax.scan(substep, data, None, length=self.frame_skip)[0]

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Predictions [..., O] with unit quaternions.

    Those of free and ball joints are found where `observe` passes them on as
    they are in `qpos`. Another representation needs a method of its own.
    """
    return quaternions.normalized(next_obs, self._quaternion_places())

  def _quaternion_places(self) -> tuple[int, ...]:
    if not quaternions.addresses(self.mj_model):
      return ()
    qpos = quaternions.example(self.mj_model)
    with jax.ensure_compile_time_eval():
      data = self.data(jnp.asarray(qpos, float), jnp.zeros(self.mj_model.nv))
      obs = np.asarray(self.observe(data))
    return quaternions.places(self.mj_model, qpos, obs)

  def make_data(self) -> mjx.Data:
    """A physics state at the model's reference position."""
    return mjx.make_data(self.model)

  def data(self, qpos: jax.Array, qvel: jax.Array) -> mjx.Data:
    """A physics state at rest in its solver, from `qpos` [nq], `qvel` [nv]."""
    return self.make_data().replace(qpos=qpos, qvel=qvel)

  def scene(self) -> mujoco.MjModel:
    """The compiled MJCF."""
    return self.mj_model

  def pose(self, pipeline_state: mjx.Data) -> base.Pose:
    """Its coordinates, and its bodies that are moved from outside."""
    data = pipeline_state
    return base.Pose(data.qpos, data.mocap_pos, data.mocap_quat)

  @property
  def action_size(self) -> int:
    """Number of actuators."""
    return self.mj_model.nu

  @property
  def backend(self) -> str:
    """The physics engine's name."""
    return self.engine
