"""The humanoid: a body of 17 joints that is to run without falling.

MJCF and numbers are Gymnasium's but for integrator, solver and contacts, see
`assets/humanoid.xml`. It serves two task families, `humanoid_direc` and
`slim_humanoid`.
"""

from typing import ClassVar

from mbmpo_jax.envs import locomotion

# Of ||u||^2, u = 0.4 a the actuators' controls, at a weight of 0.1.
CONTROL_COST = 0.1 * 0.4**2
ALIVE_BONUS = 5.0
NOISE = locomotion.Noise(0.01)


class Humanoid(locomotion.Locomotion):
  """17 actions, within [-1, 1]; controls are 0.4 of them.

  Observation: `qpos[2:]` (22: height, orientation as a quaternion, 17 joint
  angles) and `qvel` (23: velocity, angular velocity, 17 joint velocities).
  """

  asset = 'humanoid.xml'
  hidden_coordinates = 2
  variants: ClassVar = {
    'standard': locomotion.Variant(
      frame_skip=5,
      control_cost=CONTROL_COST,
      position_noise=NOISE,
      velocity_noise=NOISE,
      alive_bonus=ALIVE_BONUS,
    )
  }
