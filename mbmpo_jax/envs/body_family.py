"""Task families that differ in physical parameters, not in the reward."""

import abc
from typing import Any

from mbmpo_jax.envs import families
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import physics


class BodyFamily(families.Family):
  """One MJCF file whose parameters are multiplied by factors of the task.

  A subclass sets `nominal` and implements `scales`, `trained_range` and
  `describe`. Constants that MuJoCo derives from these parameters when it
  compiles a file are recomputed for every task (`physics.scaled`).
  """

  nominal: mjx.MjxEnvironment

  @abc.abstractmethod
  def scales(self, task: families.Task) -> physics.Scales:
    """Returns the factors of a task, which may be traced."""

  def prepare(self, task: families.Task) -> physics.Physics:
    """Returns the model fields that differ from those of the nominal body."""
    return physics.scaled(self.nominal.model, self.scales(task))

  def world(self, task: families.Task, prepared: Any) -> mjx.MjxEnvironment:
    """Returns the nominal environment with the body of the task."""
    del task
    return physics.with_physics(self.nominal, prepared)
