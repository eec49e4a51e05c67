"""HalfCheetah: run forward in the plane on two legs.

The body is that of Gymnasium's HalfCheetah-v5. The reward reads the forward
velocity of the *next observation*, where Gymnasium divides the displacement of
the step by its duration: a model-based method can then imagine it exactly.
"""

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import mjx

_FORWARD_VELOCITY = 8  # obs = [qpos without x (8), qvel (9)]


class HalfCheetah(mjx.MjxEnvironment):
  """17 observations, 6 actions, 0.05 s per step, never done.

  Observation: `qpos[1:]` (height, pitch, 6 joint angles) and `qvel` (forward,
  vertical and pitch velocity, 6 joint velocities). Reward:
  `next_obs[8] - 0.1 * ||action||^2`. Reset: `qpos` uniform within 0.1 of rest,
  `qvel` normal with deviation 0.1.
  """

  max_episode_steps = 1000
  can_terminate = False
  observation_size = 17

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(mjx.ASSETS / 'half_cheetah.xml', frame_skip=5)

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Draws joint positions and velocities around rest."""
    position_rng, velocity_rng = jax.random.split(rng)
    rest = jnp.asarray(self.mj_model.qpos0)
    qpos = rest + jax.random.uniform(
      position_rng, rest.shape, rest.dtype, -0.1, 0.1
    )
    qvel = 0.1 * jax.random.normal(
      velocity_rng, (self.mj_model.nv,), rest.dtype
    )
    return self.data(qpos, qvel)

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Joint positions without the distance run, and joint velocities."""
    return jnp.concatenate([pipeline_state.qpos[1:], pipeline_state.qvel])

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Forward velocity minus the cost of control."""
    control_cost = 0.1 * jnp.sum(jnp.square(action), -1)
    return next_obs[..., _FORWARD_VELOCITY] - control_cost
