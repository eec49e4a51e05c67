"""Humanoids of other masses and damping, as GSSM and CaDM have them.

Reward (0.25 / 0.015) v - 0.1 ||u||^2 + 5 [1 <= z' <= 2] with v the torso's
forward velocity before the step, u = 0.4 a and z' its height after it; never
done, 1,000 steps. These are the numbers of CaDM (Lee et al. 2020), of what its
simulator pays. The reward functions that it gives its models read z from a
quaternion's place, and one of them fines the fallen -5 where the simulator pays
the upright 5: that is not repeated. GSSM (Wang and van Hoof 2022, section 5)
has these task sets.
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
    """(0.25 / 0.015) v - 0.1 ||u||^2 + 5 [1 <= z' <= 2], [...]."""
    height = next_obs[..., 0]
    upright = ((height >= 1.0) & (height <= 2.0)).astype(height.dtype)
    effort = jnp.sum(jnp.square(action), -1)
    return (
      _VELOCITY_WEIGHT * obs[..., self._velocity_index]
      - self.variant.control_cost * effort
      + self.variant.alive_bonus * upright
    )


class SlimHumanoids(mass_damping.MassDamping):
  """25 to train on, 16 others to be tested on."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = SlimHumanoid()
