"""A point in the plane that is paid for moving along a hidden direction.

State `s = (x, y)`, `s' = s + 0.1 a`, as of `point.py`; 60 steps. The reward is
`d (x' - x) / 0.1` with the task d = 1 or -1: at best 1 a step, and 0 for doing
nothing. Observations say nothing of d, only rewards do. By default d turns
round every 20 steps, so that a policy has to notice.
"""

import jax
import mujoco

from mbmpo_jax.envs import directions
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


class Directions(directions.BothWays):
  """Both directions; a task is d, a float []."""

  nominal = PointDirec()
  switch_period = 20

  def describe(self, task: jax.Array) -> str:
    """`to the right` or `to the left`."""
    return 'to the right' if task > 0 else 'to the left'
