"""Swimmer: swim forward in a viscous plane by bending two joints."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import locomotion

_UNIFORM = locomotion.Noise(0.1)
# The benchmark's first swimmer, which is paid for the velocity of a point in
# its body; the other is paid for that of its tip.
V0 = locomotion.Variant(
  frame_skip=4,
  control_cost=1e-4,
  position_noise=_UNIFORM,
  velocity_noise=_UNIFORM,
  benchmark=True,
)


class Swimmer(locomotion.Locomotion):
  """8 observations, 2 actions, never done.

  Observation: `qpos[2:]` (heading, 2 joint angles) and `qvel` (velocity along x
  and y, turning, 2 joint velocities). In the `benchmark` variant the mean
  forward velocity of the swimmer's tip follows, as u does in `gymnasium`.
  """

  asset = 'swimmer.xml'
  can_terminate = False
  hidden_coordinates = 2
  variants: ClassVar = {
    'paper': locomotion.Variant(frame_skip=1, control_cost=1e-4),
    'gymnasium': locomotion.Variant(
      frame_skip=4,
      control_cost=1e-4,
      position_noise=_UNIFORM,
      velocity_noise=_UNIFORM,
      gymnasium=True,
    ),
    'benchmark': V0._replace(gymnasium=True, reach=1.5),
  }

  def data(self, qpos: jax.Array, qvel: jax.Array) -> mujoco_mjx.Data:
    """A physics state at rest in its solver, no step taken yet."""
    data = super().data(qpos, qvel)
    velocity = qvel[0] - self.variant.reach * jnp.sin(qpos[2]) * qvel[2]
    position = self.forward_position(data)
    return data.replace(userdata=jnp.stack([velocity, position]))

  def forward_position(self, data: mujoco_mjx.Data) -> jax.Array:
    """That of the point which the variant measures, `reach` ahead."""
    return data.qpos[0] + self.variant.reach * jnp.cos(data.qpos[2])
