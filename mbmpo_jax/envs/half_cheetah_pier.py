"""The half-cheetah on a pier of eight blocks that float, each damped otherwise.

The world of Learning to Adapt (Nagabandi et al. 2019). A block moves up and
down only, on a spring, within 0.15 m of where it is at rest without a load. Its
damping is uniform in [0, 10] N s/m, drawn per block and episode.

Learning to Adapt gives all bodies together 14 kg, blocks included: 1.38 kg for
each block, 2.93 for the cheetah. Here the cheetah has its 14 kg, and the pier
is 14 / 2.93 = 4.78 times as heavy, stiff and damped as theirs, so that it gives
way beneath the cheetah as theirs does; a task says the damping in their
numbers. The tops of the blocks are where the half-cheetah's floor is, so that
an episode does not begin within them.

Reward v - 0.05 ||a||^2, v the velocity of the centre of mass over the step;
never done, 1,000 steps of 0.01 s.
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
_MAX_DAMPING = 10.0  # N s/m, as Learning to Adapt has it
_NOMINAL_DAMPING = _MAX_DAMPING / 2  # what the MJCF file has, times 4.78


class OnPier(locomotion.Locomotion):
  """20 observations, 6 actions, never done.

  Observation: height, pitch and joint angles (8), velocities (9), and the
  cheetah's centre of mass (3). The blocks' positions are hidden.
  """

  asset = 'half_cheetah_pier.xml'
  can_terminate = False
  observation_size = 20
  variants: ClassVar = {
    'standard': locomotion.Variant(frame_skip=1, control_cost=0.05)
  }

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Positions, velocities, centre of mass, [20]."""
    data = kinematics.placed(self.model, pipeline_state)
    center = kinematics.center_of_mass(self.model, data, _TORSO)
    size = self.mj_model.nv - _BLOCKS
    return jnp.concatenate([data.qpos[1:size], data.qvel[:size], center])

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """v - 0.05 ||a||^2, [...]."""
    velocity = (next_obs[..., -3] - obs[..., -3]) / self.dt
    effort = jnp.sum(jnp.square(action), -1)
    return velocity - self.variant.control_cost * effort


class Piers(body_family.BodyFamily):
  """A task is the damping of the blocks, [8], in N s/m."""

  def __init__(self) -> None:
    """Loads cheetah and pier."""
    self.nominal = OnPier()

  def trained_range(self) -> tuple[jax.Array, jax.Array]:
    """0 to 10, each block apart."""
    return jnp.zeros(_BLOCKS), jnp.full(_BLOCKS, _MAX_DAMPING)

  def scales(self, task: jax.Array) -> physics.Scales:
    """The blocks' damping; the cheetah's stays."""
    cheetah = jnp.ones(self.nominal.mj_model.nv - _BLOCKS)
    blocks = task / _NOMINAL_DAMPING
    return physics.Scales(damping=jnp.concatenate([cheetah, blocks]))

  def describe(self, task: jax.Array) -> str:
    """The eight numbers."""
    return f'damping {" ".join(f"{value:.2g}" for value in task)}'
