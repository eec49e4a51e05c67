"""Task families of bodies: what differs is physical, the reward is not."""

import abc
from typing import Any

from mbmpo_jax.envs import families
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import physics


class BodyFamily(families.Family):
  """One MJCF file, with factors that the task says.

  A subclass sets `nominal` and gives `scales`, `trained_range` and `describe`.
  What MuJoCo derives of these factors when it compiles a file is computed anew
  for every task (`physics.scaled`).
  """

  nominal: mjx.MjxEnvironment

  @abc.abstractmethod
  def scales(self, task: families.Task) -> physics.Scales:
    """The factors of a task, which may be traced."""

  def prepare(self, task: families.Task) -> physics.Physics:
    """The fields of the model that differ from the nominal body's."""
    return physics.scaled(self.nominal.model, self.scales(task))

  def world(self, task: families.Task, prepared: Any) -> mjx.MjxEnvironment:
    """The nominal world with the body of the task."""
    del task
    return physics.with_physics(self.nominal, prepared)
