"""Reach a point in the plane with two links: the benchmark's environment.

The body is Gymnasium's. The reward is -|d| - |a|^2, where d is the vector from
the target to the fingertip before the step. Episodes do not terminate and have
50 steps of 0.02 s (Wang et al. 2019, MBBL). The target is uniform in a square
of side 0.4 m, as in Gym's first version; the corners of the square are out of
reach.
"""

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import circles
from mbmpo_jax.envs import mjx

_LINKS = (0.1, 0.11)  # m, the second up to the fingertip's centre
_ANGLE_WIDTH, _SPEED_WIDTH, _TARGET_WIDTH = 0.1, 0.005, 0.2


class Reacher(mjx.MjxEnvironment):
  """11 observations, 2 actions.

  Observation: cosines of the two joint angles (2), their sines (2), the target
  (2), the joint velocities (2), fingertip minus target (3).
  """

  max_episode_steps = 50
  can_terminate = False
  observation_size = 11

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(mjx.ASSETS / 'reacher.xml', frame_skip=2)

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Angles U(-0.1, 0.1), velocities U(-0.005, 0.005), target U(-0.2, 0.2).

    Consumes `rng`.
    """
    keys = jax.random.split(rng, 3)
    widths = (_ANGLE_WIDTH, _TARGET_WIDTH, _SPEED_WIDTH)
    angles, target, speeds = (
      jax.random.uniform(key, (2,), minval=-width, maxval=width)
      for key, width in zip(keys, widths, strict=True)
    )
    still = jnp.zeros_like(speeds)
    return self.data(
      jnp.concatenate([angles, target]), jnp.concatenate([speeds, still])
    )

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns the observation [11], see the class."""
    qpos, qvel = pipeline_state.qpos, pipeline_state.qvel
    angles, target = qpos[:2], qpos[2:]
    directions = jnp.cumsum(angles)
    lengths = jnp.asarray(_LINKS)
    tip = jnp.stack(
      [
        jnp.sum(lengths * jnp.cos(directions)),
        jnp.sum(lengths * jnp.sin(directions)),
      ]
    )
    height = jnp.zeros_like(tip[:1])
    parts = [jnp.cos(angles), jnp.sin(angles), target, qvel[:2], tip - target]
    return jnp.concatenate([*parts, height])

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns -|d| - |a|^2 with d before the step, [...]."""
    del next_obs
    distance = jnp.linalg.norm(obs[..., -3:], axis=-1)
    return -distance - jnp.sum(jnp.square(action), -1)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Normalises the cosine-sine pairs of predictions [..., 11]."""
    return circles.normalized(next_obs, ((0, 2), (1, 3)))
