"""Task families with two tasks: move along a direction or against it."""

import copy
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base
from mbmpo_jax.envs import families


class BothWays(families.Family):
  """Both directions; a task is d, a float [] equal to 1 or -1.

  A subclass sets `nominal`, an environment with an attribute `direction` that
  only its reward reads. By default d changes sign within the episode.
  """

  schedule = 'switch'
  rewards_by_task = True

  def trained_range(self) -> tuple[jax.Array, jax.Array]:
    """-1 and 1; values between are not drawn."""
    return jnp.asarray(-1.0), jnp.asarray(1.0)

  def sample_task(self, rng: jax.Array, split: str = 'train') -> jax.Array:
    """Draws -1 or 1 with equal probability; consumes `rng`."""
    del split
    return families.choose(rng, self.test_tasks())

  def next_task(
    self, rng: jax.Array, task: jax.Array, split: str = 'train'
  ) -> jax.Array:
    """Returns the other direction, -d."""
    del rng, split
    return -task

  def test_tasks(self) -> jax.Array:
    """[-1, 1]."""
    return jnp.stack(self.trained_range())

  def world(self, task: jax.Array, prepared: Any) -> base.Environment:
    """Returns a copy of `nominal` with the direction of the task."""
    del prepared
    world = copy.copy(self.nominal)
    world.direction = task
    return world

  def describe(self, task: jax.Array) -> str:
    """`forward` or `backward`."""
    return 'forward' if task > 0 else 'backward'
