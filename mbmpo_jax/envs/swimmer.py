"""Swimmer: swim forward in a viscous plane by bending two joints."""

from typing import ClassVar

from mbmpo_jax.envs import locomotion

_UNIFORM = locomotion.Noise(0.1)


class Swimmer(locomotion.Locomotion):
  """8 observations, 2 actions, never done.

  Observation: `qpos[2:]` (heading, 2 joint angles) and `qvel` (velocity along x
  and y, turning, 2 joint velocities).
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
  }
