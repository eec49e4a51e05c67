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

  The action in [-1, 1] is mapped affinely to each actuator's control range. If
  an actuator has no range, a warning states which range is used
  (`actuators.control_ranges`).

  Attributes:
    mj_model: the compiled MJCF file on the host, for rendering and reference.
    model: the same model on the device.
    frame_skip: physics steps of `mj_model.opt.timestep` per environment step.
    engine: the name of the physics engine.
  """

  engine = 'mjx'

  def __init__(self, path: str | pathlib.Path, *, frame_skip: int) -> None:
    """Compiles the MJCF file at `path`.

    Args:
      path: of the MJCF file.
      frame_skip: physics steps per environment step.

    Raises:
      mjcf.MjcfError: if the file cannot be simulated.
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
    """Takes `frame_skip` physics steps with constant controls."""
    control = self._control_center + self._control_scale * action
    data = pipeline_state.replace(ctrl=control)

    def substep(data: mjx.Data, _: None) -> tuple[mjx.Data, None]:
      return mjx.step(self.model, data), None

    # On GPUs, TF32 products make the constraint solver fail.
    with (
      jax.default_matmul_precision('highest'),
      contact.capsule_frames(),
      kinematics.unfused_chains(),
      tendons.same_types(),
    ):
      return jax.lax.scan(substep, data, None, length=self.frame_skip)[0]

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Normalises the quaternions in predictions [..., O].

    The quaternions of free and ball joints are found automatically if `observe`
    copies them from `qpos`. For another representation, override this method.
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
    """Returns a physics state at the model's reference position."""
    return mjx.make_data(self.model)

  def data(self, qpos: jax.Array, qvel: jax.Array) -> mjx.Data:
    """Returns a state with no step taken, from `qpos` [nq] and `qvel` [nv]."""
    return self.make_data().replace(qpos=qpos, qvel=qvel)

  def scene(self) -> mujoco.MjModel:
    """The compiled MJCF file."""
    return self.mj_model

  def pose(self, pipeline_state: mjx.Data) -> base.Pose:
    """Returns the coordinates and the poses of the mocap bodies."""
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
