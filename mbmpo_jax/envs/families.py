"""Task families: worlds that differ by a task, a pytree of parameters.

A family says how tasks are drawn and makes a world of one. Everything is pure,
and a task may be traced: `jax.vmap` over tasks gives a world to each.

  family = envs.family('acrobot')
  task = family.sample_task(key)
  env = envs.fixed(family, task)  # This task, for any number of episodes.
  env = envs.Tasked(family)       # One of its own for every episode.

Within one world the task is a constant: nothing of it is handed from step to
step but by `Tasked`, in whose state it is.
"""

import abc
from collections.abc import Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import errors
from mbmpo_jax.envs import base

# A pytree of arrays, the same shapes for all tasks of a family.
Task: TypeAlias = Any

SPLITS = ('train', 'test')
SCHEDULES = ('episode', 'switch')
# Of the test tasks of a family that lists none.
_TEST_SEED = 0x7461736B


class TaskError(errors.UserError, ValueError):
  """A world has no tasks, or is asked for what only the task says."""


class Family(abc.ABC):
  """Worlds of one kind, each with a task of its own.

  A subclass sets `nominal` and gives `trained_range`, `world` and `describe`.
  Tasks are then uniform within the range, leaf by leaf; a family of a few tasks
  overrides `sample_task` (`choose` helps) and `test_tasks`.

  Attributes:
    nominal: a world of the family, which says what holds for all of them:
      sizes, spaces, limits, what a model sees, what is drawn.
    schedule: when tasks change unless the user says otherwise, `episode` or
      `switch`, within the episode.
    switch_period: steps after which they do, where they do.
    num_test_tasks: M, where they are drawn.
    rewards_by_task: whether `reward` differs between tasks. If so, it cannot
      be told from observations that hide the task.
    ends_by_task: the same of `done`.
  """

  nominal: base.Environment
  schedule: str = 'episode'
  switch_period: int = 300
  num_test_tasks: int = 20
  rewards_by_task: bool = False
  ends_by_task: bool = False

  @abc.abstractmethod
  def trained_range(self) -> tuple[Task, Task]:
    """The least and the greatest task that training draws, leaf by leaf."""

  @abc.abstractmethod
  def world(self, task: Task, prepared: Any) -> base.Environment:
    """The world of a task, of the same sizes and types as `nominal`.

    Cheap to build, as every step does so.

    Args:
      task: may be traced.
      prepared: what `prepare` makes of it.
    """

  @abc.abstractmethod
  def describe(self, task: Task) -> str:
    """A few words for people, of a task that is not traced."""

  def prepare(self, task: Task) -> Any:
    """What follows from a task, a pytree computed once for it; else nothing.

    For what costs as much as a step, as the derived fields of a body do
    (`physics.scaled`).
    """
    del task
    return ()

  def sample_task(self, rng: jax.Array, split: str = 'train') -> Task:
    """Draws a task; consumes `rng`.

    Args:
      rng: a raw key.
      split: `train` or `test`, of families in which they are drawn apart; here
        they are not.
    """
    del split
    low, high = self.trained_range()
    leaves, structure = jax.tree.flatten(low)
    keys = jax.tree.unflatten(structure, [*jax.random.split(rng, len(leaves))])
    return jax.tree.map(_uniform, keys, low, high)

  def next_task(self, rng: jax.Array, task: Task, split: str = 'train') -> Task:
    """The task that follows `task` within an episode; by default drawn anew.

    Consumes `rng`.
    """
    del task
    return self.sample_task(rng, split)

  def test_tasks(self) -> Task:
    """The fixed set that evaluations use, leaves [M, ...]; the same always."""
    keys = jax.random.split(jax.random.PRNGKey(_TEST_SEED), self.num_test_tasks)
    return jax.vmap(lambda key: self.sample_task(key, 'test'))(keys)

  @property
  def task_size(self) -> int:
    """D, the length of `vector`."""
    return sum(leaf.size for leaf in jax.tree.leaves(self._shapes()))

  def vector(self, task: Task) -> jax.Array:
    """All numbers of a task, [D]."""
    return jnp.concatenate(
      [jnp.ravel(leaf).astype(float) for leaf in jax.tree.leaves(task)]
    )

  def from_vector(self, vector: jax.Array) -> Task:
    """The task of a `vector` [D]; integers are rounded."""
    shapes, structure = jax.tree.flatten(self._shapes())
    ends = np.cumsum([shape.size for shape in shapes])[:-1]
    parts = jnp.split(vector, ends)
    leaves = [
      _reshaped(part, shape) for part, shape in zip(parts, shapes, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)

  def _shapes(self) -> Any:
    return jax.eval_shape(self.sample_task, jax.random.PRNGKey(0))


def choose(rng: jax.Array, tasks: Task) -> Task:
  """One of the tasks [M, ...], all equally likely; consumes `rng`."""
  index = jax.random.randint(rng, (), 0, count(tasks))
  return at(tasks, index)


def at(tasks: Task, index: jax.Array | int) -> Task:
  """The task at a place of several, leaves [M, ...] -> [...]."""
  return jax.tree.map(lambda leaf: leaf[index], tasks)


def count(tasks: Task) -> int:
  """M, of tasks with leaves [M, ...]."""
  return jax.tree.leaves(tasks)[0].shape[0]


def outside_trained_range(family: Family, tasks: Task) -> list[int]:
  """Which of the tasks [M, ...] training never draws; on the host.

  A hair's breadth beyond a limit is within it: single precision rounds.
  """
  low, high = family.trained_range()
  outside = np.zeros(count(tasks), bool)
  for values, least, most in _bounds(tasks, low, high):
    slack = 1e-6 * (np.abs(least) + np.abs(most))
    beyond = ~((values >= least - slack) & (values <= most + slack))
    outside |= beyond.reshape(len(outside), -1).any(1)
  return np.flatnonzero(outside).tolist()


def warning_outside(family: Family, tasks: Task) -> str | None:
  """One line that names the tasks which training never draws, if any."""
  places = outside_trained_range(family, tasks)
  if not places:
    return None
  first = places[0]
  low, high = (family.describe(task) for task in family.trained_range())
  return (
    f'{len(places)} of {count(tasks)} tasks are outside the trained range,'
    f' {low} to {high}; the first is task {first}:'
    f' {family.describe(at(tasks, first))}'
  )


def _bounds(*trees: Task) -> Iterator[tuple[np.ndarray, ...]]:
  leaves = [map(np.asarray, jax.tree.leaves(tree)) for tree in trees]
  return zip(*leaves, strict=True)


def _uniform(key: jax.Array, low: Any, high: Any) -> jax.Array:
  low, high = jnp.asarray(low), jnp.asarray(high)
  return jax.random.uniform(key, low.shape, float, low, high)


def _reshaped(part: jax.Array, like: Any) -> jax.Array:
  if jnp.issubdtype(like.dtype, jnp.integer):
    part = jnp.round(part)
  return part.reshape(like.shape).astype(like.dtype)
