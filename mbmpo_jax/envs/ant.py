"""Ant: run forward on four legs while the torso stays within a height range."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax import straight_through
from mbmpo_jax.envs import locomotion

_BENCHMARK = locomotion.Variant(
  frame_skip=5,
  control_cost=0.1,
  alive_bonus=1.0,
  position_noise=locomotion.Noise(0.1),
  benchmark=True,
  height_cost=3.0,
  height=0.57,
  ends=False,
)
# The benchmark's environment with early termination.
EARLY = _BENCHMARK._replace(ends=True, alive_if_healthy=True)


class Ant(locomotion.Locomotion):
  """27 observations, 8 actions; done where the torso's height is out of range.

  Observation: `qpos[2:]` (height, orientation as a quaternion, 8 joint angles)
  and `qvel` (3 velocities, 3 angular velocities, 8 joint velocities). The
  `gymnasium` variant also observes the external forces and torques on the 13
  bodies (78 numbers, clipped to +-1), and subtracts 5e-4 times the sum of their
  squares from the reward.
  """

  asset = 'ant.xml'
  can_terminate = True
  hidden_coordinates = 2
  variants: ClassVar = {
    'paper': locomotion.Variant(
      frame_skip=2, control_cost=0.005, alive_bonus=1.0
    ),
    'gymnasium': locomotion.Variant(
      frame_skip=5,
      control_cost=0.5,
      alive_bonus=1.0,
      position_noise=locomotion.Noise(0.1),
      gymnasium=True,
      contact_cost=5e-4,
    ),
    'benchmark': _BENCHMARK,
  }

  @property
  def observation_size(self) -> int:
    """Includes the contact forces, if the variant observes them."""
    size = super().observation_size
    return size + 6 * (self.mj_model.nbody - 1) * self._feels_forces

  def advance(
    self, pipeline_state: mujoco_mjx.Data, action: jax.Array
  ) -> mujoco_mjx.Data:
    """Advances the physics and computes the contact forces if observed."""
    data = super().advance(pipeline_state, action)
    if not self._feels_forces:
      return data
    with jax.default_matmul_precision('highest'):
      return mujoco_mjx.rne_postconstraint(self.model, data)

  def forward_position(self, data: mujoco_mjx.Data) -> jax.Array:
    """Returns the torso's x when forces were last computed, as in Gymnasium."""
    return data.xpos[1, 0]

  @property
  def _feels_forces(self) -> bool:
    return self.variant.contact_cost > 0

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns positions, velocities and the variant's additions, [O]."""
    obs = super().observe(pipeline_state)
    if not self._feels_forces:
      return obs
    forces = jnp.clip(pipeline_state._impl.cfrc_ext[1:], -1.0, 1.0)
    return jnp.concatenate([obs[:-1], forces.reshape(-1), obs[-1:]])

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns v + alive - cost * ||a||^2 minus the contact cost, [...]."""
    reward = super().reward(obs, action, next_obs)
    if not self._feels_forces:
      return reward
    forces = next_obs[..., self._body_size : -1]
    cost = self.variant.contact_cost * jnp.sum(jnp.square(forces), -1)
    return reward - cost

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Normalises the quaternion and clips forces to their observed range."""
    next_obs = super().project(next_obs)
    if not self._feels_forces:
      return next_obs
    forces = slice(self._body_size, -1)
    return next_obs.at[..., forces].set(
      straight_through.clip(next_obs[..., forces], -1.0, 1.0)
    )

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Whether the height is in [0.2, 1] and all numbers are finite."""
    height = obs[..., 0]
    finite = jnp.all(jnp.isfinite(obs), -1)
    return finite & (height >= 0.2) & (height <= 1.0)
