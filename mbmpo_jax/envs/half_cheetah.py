"""HalfCheetah: run forward in the plane on two legs."""

from typing import ClassVar

from mbmpo_jax.envs import locomotion

_UNIFORM = locomotion.Noise(0.1)


class HalfCheetah(locomotion.Locomotion):
  """17 observations, 6 actions, never done.

  Observation: `qpos[1:]` (height, pitch, 6 joint angles) and `qvel` (forward,
  vertical and pitch velocity, 6 joint velocities). The default variant,
  `standard`, has Gymnasium's time step and resets and the paper's reward,
  `next_obs[8] - 0.1 * ||action||^2`. The paper's code uses a step of 0.01 s, as
  the variant `paper` does.
  """

  asset = 'half_cheetah.xml'
  can_terminate = False
  variants: ClassVar = {
    'standard': locomotion.Variant(
      frame_skip=5, control_cost=0.1, position_noise=_UNIFORM
    ),
    'paper': locomotion.Variant(frame_skip=1, control_cost=0.1),
    'gymnasium': locomotion.Variant(
      frame_skip=5,
      control_cost=0.1,
      position_noise=_UNIFORM,
      gymnasium=True,
    ),
    'benchmark': locomotion.Variant(
      frame_skip=5,
      control_cost=0.1,
      position_noise=_UNIFORM,
      benchmark=True,
    ),
  }
