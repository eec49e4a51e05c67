"""The humanoid: a body with 17 joints that has to run without falling.

The MJCF file and the constants are Gymnasium's except for integrator, solver
and contacts, see `assets/humanoid.xml`. The task families `humanoid_direc` and
`slim_humanoid` use it.
"""

from typing import ClassVar

from mbmpo_jax.envs import locomotion

# Weight of ||a||^2: the cost is 0.1 ||u||^2 of the controls u = 0.4 a.
CONTROL_COST = 0.1 * 0.4**2
ALIVE_BONUS = 5.0
NOISE = locomotion.Noise(0.01)


class Humanoid(locomotion.Locomotion):
  """17 actions in [-1, 1]; the controls are 0.4 times the actions.

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
