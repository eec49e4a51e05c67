"""The humanoid that has to walk forward or backward.

The reward is 1.25 d v - 0.1 ||u||^2 + 5 with the hidden task d = 1 or -1, where
v is the velocity of the centre of mass over the step and u = 0.4 a, as in the
code of ProMP (Rothfuss et al. 2019) and in M3PO (Hiraoka et al. 2021). An
episode ends if the torso's height leaves [1, 2]. By default d changes sign
every 300 steps.

ProMP's cost of contact forces is omitted, as in brax, because it needs 84 more
observations. ProMP's other 331 observations, which the reward does not need,
are omitted too.
"""

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import directions
from mbmpo_jax.envs import humanoid
from mbmpo_jax.envs import kinematics

_TORSO = 1
_VARIANT = humanoid.Humanoid.variants['standard']._replace(
  velocity_weight=1.25, gymnasium=True, pays_the_end=True
)


class Walking(humanoid.Humanoid):
  """46 observations: those of the humanoid, and v."""

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(_VARIANT)

  def data(self, qpos: jax.Array, qvel: jax.Array) -> mujoco_mjx.Data:
    """Returns a state with no step taken, from `qpos` [nq] and `qvel` [nv]."""
    data = super().data(qpos, qvel)
    position = self.forward_position(data)
    return data.replace(userdata=jnp.stack([qvel[0], position]))

  def forward_position(self, data: mujoco_mjx.Data) -> jax.Array:
    """Returns the x of the centre of mass, in m."""
    data = kinematics.placed(self.model, data)
    return kinematics.center_of_mass(self.model, data, _TORSO)[0]

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Whether the height is in [1, 2]."""
    height = obs[..., 0]
    return (height >= 1.0) & (height <= 2.0)


class Directions(directions.BothWays):
  """Walking forward and backward."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = Walking()
