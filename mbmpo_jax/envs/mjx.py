"""Environments from an MJCF file, simulated by MuJoCo's JAX engine."""

import pathlib

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from mbmpo_jax.envs import base
from mbmpo_jax.envs import contact
from mbmpo_jax.envs import kinematics
from mbmpo_jax.envs import mjcf

ASSETS = pathlib.Path(__file__).parent / 'assets'


class MjxEnvironment(base.Environment):
  """Physics by `mujoco.mjx`; a subclass adds resets, observation and task.

  The action in [-1, 1] is mapped affinely to each actuator's control range.

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
    limited = self.mj_model.actuator_ctrllimited.astype(bool)
    low, high = self.mj_model.actuator_ctrlrange.T
    self._control_center = jnp.where(limited, (low + high) / 2, 0.0)
    self._control_scale = jnp.where(limited, (high - low) / 2, 1.0)

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
    ):
      return jax.lax.scan(substep, data, None, length=self.frame_skip)[0]

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
