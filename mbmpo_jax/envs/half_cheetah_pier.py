"""The half-cheetah on a pier of eight floating blocks with different damping.

This is the environment of Learning to Adapt (Nagabandi et al. 2019). A block
moves vertically only, on a spring, within 0.15 m of its rest position without
load. The damping of each block is uniform in [0, 10] N s/m, drawn in every
episode.

Learning to Adapt gives all bodies together 14 kg, blocks included: 1.38 kg to
each block, 2.93 kg to the cheetah. Here the cheetah alone has 14 kg. The mass,
stiffness and damping of the pier are 14 / 2.93 = 4.78 times those of Learning
to Adapt, so that the pier yields under the cheetah in the same way; a task
gives the damping in their units. The tops of the blocks are at the height of
the half-cheetah's floor, so that the cheetah does not start inside them.

The reward is v - 0.05 ||a||^2, where v is the velocity of the centre of mass
over the step. Episodes do not terminate and have 1,000 steps of 0.01 s.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import body_family
from mbmpo_jax.envs import kinematics
from mbmpo_jax.envs import locomotion
from mbmpo_jax.envs import physics

_BLOCKS = 8
_TORSO = 1
_MAX_DAMPING = 10.0  # N s/m, as in Learning to Adapt
_NOMINAL_DAMPING = _MAX_DAMPING / 2  # the MJCF file has 4.78 times this


class OnPier(locomotion.Locomotion):
  """20 observations, 6 actions, never done.

  Observation: height, pitch and joint angles (8), velocities (9), and the
  cheetah's centre of mass (3). The positions of the blocks are hidden.
  """

  asset = 'half_cheetah_pier.xml'
  can_terminate = False
  observation_size = 20
  variants: ClassVar = {
    'standard': locomotion.Variant(frame_skip=1, control_cost=0.05)
  }

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns positions, velocities and the centre of mass, [20]."""
    data = kinematics.placed(self.model, pipeline_state)
    center = kinematics.center_of_mass(self.model, data, _TORSO)
    size = self.mj_model.nv - _BLOCKS
    return jnp.concatenate([data.qpos[1:size], data.qvel[:size], center])

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns v - 0.05 ||a||^2, [...]."""
    velocity = (next_obs[..., -3] - obs[..., -3]) / self.dt
    effort = jnp.sum(jnp.square(action), -1)
    return velocity - self.variant.control_cost * effort


class Piers(body_family.BodyFamily):
  """A task is the damping of the blocks, [8], in N s/m."""

  def __init__(self) -> None:
    """Loads the cheetah and the pier."""
    self.nominal = OnPier()

  def trained_range(self) -> tuple[jax.Array, jax.Array]:
    """0 to 10 N s/m for each block."""
    return jnp.zeros(_BLOCKS), jnp.full(_BLOCKS, _MAX_DAMPING)

  def scales(self, task: jax.Array) -> physics.Scales:
    """Scales the damping of the blocks, not that of the cheetah."""
    cheetah = jnp.ones(self.nominal.mj_model.nv - _BLOCKS)
    blocks = task / _NOMINAL_DAMPING
    return physics.Scales(damping=jnp.concatenate([cheetah, blocks]))

  def describe(self, task: jax.Array) -> str:
    """Lists the eight damping values."""
    return f'damping {" ".join(f"{value:.2g}" for value in task)}'
