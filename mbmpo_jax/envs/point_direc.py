"""A point in the plane that has to move along a hidden direction.

State and dynamics are those of `point.py`: `s = (x, y)`, `s' = s + 0.1 a`; an
episode has 60 steps. The reward is `d (x' - x) / 0.1` with the task d = 1 or
-1: at most 1 a step, and 0 for a point at rest. Rewards depend on d,
observations do not. By default d changes sign every 20 steps, so a policy has
to adapt within the episode.
"""

import jax
import mujoco

from mbmpo_jax.envs import directions
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import point


class PointDirec(point.Point):
  """The point with one direction.

  Attributes:
    direction: d.
  """

  max_episode_steps = 60

  def __init__(self, direction: jax.Array | float = 1.0) -> None:
    """Sets the direction d, 1 or -1."""
    self.direction = direction

  def scene(self) -> mujoco.MjModel:
    """A ball on the square of initial positions."""
    return mujoco.MjModel.from_xml_path(str(mjx.ASSETS / 'point_direc.xml'))

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns d (x' - x) / 0.1, [...]."""
    return self.direction * (next_obs[..., 0] - obs[..., 0]) / point.MAX_STEP


class Directions(directions.BothWays):
  """Both directions; a task is d, a float []."""

  nominal = PointDirec()
  switch_period = 20

  def describe(self, task: jax.Array) -> str:
    """`to the right` or `to the left`."""
    return 'to the right' if task > 0 else 'to the left'
