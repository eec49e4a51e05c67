"""Humanoids with different masses and damping, as in GSSM and CaDM.

The reward is (0.25 / 0.015) v - 0.1 ||u||^2 + 5 [1 <= z' <= 2], where v is the
torso's forward velocity before the step, u = 0.4 a, and z' is the torso's
height after the step. Episodes do not terminate and have 1,000 steps. The
constants are those of the simulator of CaDM (Lee et al. 2020). The reward
functions that CaDM gives to its models differ: they read z from an element of
the quaternion, and one of them subtracts 5 for a fallen body where the
simulator adds 5 for an upright one. These differences are not reproduced. The
task sets are those of GSSM (Wang and van Hoof 2022, section 5).
"""

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import humanoid
from mbmpo_jax.envs import mass_damping

_VELOCITY_WEIGHT = 0.25 / 0.015


class SlimHumanoid(humanoid.Humanoid):
  """45 observations, 17 actions, never done."""

  can_terminate = False

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns (0.25 / 0.015) v - 0.1 ||u||^2 + 5 [1 <= z' <= 2], [...]."""
    height = next_obs[..., 0]
    upright = ((height >= 1.0) & (height <= 2.0)).astype(height.dtype)
    effort = jnp.sum(jnp.square(action), -1)
    return (
      _VELOCITY_WEIGHT * obs[..., self._velocity_index]
      - self.variant.control_cost * effort
      + self.variant.alive_bonus * upright
    )


class SlimHumanoids(mass_damping.MassDamping):
  """25 training tasks and 16 other test tasks."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = SlimHumanoid()
