"""Swimmer: swim forward in a viscous plane by bending two joints."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import locomotion

_UNIFORM = locomotion.Noise(0.1)
# The benchmark's first swimmer. Its reward uses the velocity of a point in the
# body; that of the other swimmer uses the velocity of the tip.
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
  and y, angular velocity, 2 joint velocities). The `benchmark` variant appends
  the mean forward velocity of the swimmer's tip, the `gymnasium` variant that
  of its origin.
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
    """Returns a state with no step taken, from `qpos` [nq] and `qvel` [nv]."""
    data = super().data(qpos, qvel)
    velocity = qvel[0] - self.variant.reach * jnp.sin(qpos[2]) * qvel[2]
    position = self.forward_position(data)
    return data.replace(userdata=jnp.stack([velocity, position]))

  def forward_position(self, data: mujoco_mjx.Data) -> jax.Array:
    """Returns the x of the point at distance `reach` ahead, in m."""
    return data.qpos[0] + self.variant.reach * jnp.cos(data.qpos[2])
