"""Families of bodies whose masses and damping are scaled as a whole.

The task sets are those of GSSM (Wang and van Hoof 2022, section 5), after CaDM
(Lee et al. 2020). Masses are scaled and inertias are not, as in CaDM's code.
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
  """Factors of what the MJCF file says; leaves may have leading axes."""

  mass: jax.Array  # [], of all bodies
  damping: jax.Array  # [], of all degrees of freedom


class MassDamping(body_family.BodyFamily):
  """Every pair of two factors, each from a set; a subclass sets `nominal`."""

  def trained_range(self) -> tuple[Task, Task]:
    """0.8 and 1.2 in both."""
    low, high = (jnp.asarray(TRAIN_FACTORS[i]) for i in (0, -1))
    return Task(low, low), Task(high, high)

  def train_tasks(self) -> Task:
    """All 25 that training draws, leaves [25]."""
    return _pairs(TRAIN_FACTORS)

  def test_tasks(self) -> Task:
    """All 16 that evaluations use, leaves [16]; none is trained on."""
    return _pairs(TEST_FACTORS)

  def sample_task(self, rng: jax.Array, split: str = 'train') -> Task:
    """One of the split's, all equally likely; consumes `rng`."""
    test = split == 'test'
    return families.choose(
      rng, self.test_tasks() if test else self.train_tasks()
    )

  def scales(self, task: Task) -> physics.Scales:
    """Masses and damping by the task, inertias as they are."""
    return physics.Scales(mass=task.mass, damping=task.damping, inertia=1.0)

  def describe(self, task: Task) -> str:
    """The two factors."""
    return f'mass x{task.mass:.3g}, damping x{task.damping:.3g}'


def _pairs(factors: tuple[float, ...]) -> Task:
  mass, damping = jnp.meshgrid(
    jnp.asarray(factors), jnp.asarray(factors), indexing='ij'
  )
  return Task(mass.ravel(), damping.ravel())
