"""Task families that scale all masses and all damping of a body.

The task sets are those of GSSM (Wang and van Hoof 2022, section 5), after CaDM
(Lee et al. 2020). Inertias are not scaled, as in CaDM's code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import body_family
from mbmpo_jax.envs import families
from mbmpo_jax.envs import physics

TRAIN_FACTORS = (0.8, 0.9, 1.0, 1.1, 1.2)
TEST_FACTORS = (0.85, 0.95, 1.05, 1.15)


class Task(NamedTuple):
  """Factors on values of the MJCF file; leaves may have leading axes."""

  mass: jax.Array  # [], factor for all bodies
  damping: jax.Array  # [], factor for all degrees of freedom


class MassDamping(body_family.BodyFamily):
  """All pairs of a mass and a damping factor; a subclass sets `nominal`."""

  def trained_range(self) -> tuple[Task, Task]:
    """0.8 and 1.2 for both factors."""
    low, high = (jnp.asarray(TRAIN_FACTORS[i]) for i in (0, -1))
    return Task(low, low), Task(high, high)

  def train_tasks(self) -> Task:
    """The 25 training tasks, leaves [25]."""
    return _pairs(TRAIN_FACTORS)

  def test_tasks(self) -> Task:
    """The 16 test tasks, leaves [16]; none is a training task."""
    return _pairs(TEST_FACTORS)

  def sample_task(self, rng: jax.Array, split: str = 'train') -> Task:
    """Draws a task of the split uniformly; consumes `rng`."""
    test = split == 'test'
    return families.choose(
      rng, self.test_tasks() if test else self.train_tasks()
    )

  def scales(self, task: Task) -> physics.Scales:
    """Scales masses and damping by the task, and keeps inertias."""
    return physics.Scales(mass=task.mass, damping=task.damping, inertia=1.0)

  def describe(self, task: Task) -> str:
    """Names the two factors."""
    return f'mass x{task.mass:.3g}, damping x{task.damping:.3g}'


def _pairs(factors: tuple[float, ...]) -> Task:
  mass, damping = jnp.meshgrid(
    jnp.asarray(factors), jnp.asarray(factors), indexing='ij'
  )
  return Task(mass.ravel(), damping.ravel())
