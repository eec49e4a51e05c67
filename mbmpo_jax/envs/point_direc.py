"""A point in the plane that is paid for moving along a hidden direction.

State `s = (x, y)`, `s' = s + 0.1 a`, as of `point.py`; 60 steps. The reward is
`d (x' - x) / 0.1` with the task d = 1 or -1: at best 1 a step, and 0 for doing
nothing. Observations say nothing of d, only rewards do. By default d turns
round every 20 steps, so that a policy has to notice.
"""

from typing import Any

import jax
import jax.numpy as jnp
import mujoco

from mbmpo_jax.envs import families
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import point


class PointDirec(point.Point):
  """The point of one task.

  Attributes:
    direction: d.
  """

  max_episode_steps = 60

  def __init__(self, direction: jax.Array | float = 1.0) -> None:
    """Pays for moving along x by the sign of `direction`."""
    self.direction = direction

  def scene(self) -> mujoco.MjModel:
    """A ball on the square in which it starts."""
    return mujoco.MjModel.from_xml_path(str(mjx.ASSETS / 'point_direc.xml'))

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """d (x' - x) / 0.1, [...]."""
    return self.direction * (next_obs[..., 0] - obs[..., 0]) / point.MAX_STEP


class Directions(families.Family):
  """Both directions; a task is d, a float []."""

  nominal = PointDirec()
  schedule = 'switch'
  switch_period = 20
  rewards_by_task = True

  def trained_range(self) -> tuple[jax.Array, jax.Array]:
    """-1 and 1, and nothing between."""
    return jnp.asarray(-1.0), jnp.asarray(1.0)

  def sample_task(self, rng: jax.Array, split: str = 'train') -> jax.Array:
    """Either direction, equally likely; consumes `rng`."""
    del split
    return families.choose(rng, self.test_tasks())

  def next_task(
    self, rng: jax.Array, task: jax.Array, split: str = 'train'
  ) -> jax.Array:
    """The other direction."""
    del rng, split
    return -task

  def test_tasks(self) -> jax.Array:
    """[-1, 1]."""
    return jnp.stack(self.trained_range())

  def world(self, task: jax.Array, prepared: Any) -> PointDirec:
    """Paid by the task."""
    del prepared
    return PointDirec(task)

  def describe(self, task: jax.Array) -> str:
    """`to the right` or `to the left`."""
    return 'to the right' if task > 0 else 'to the left'
