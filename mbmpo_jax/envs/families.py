"""Task families: environments that differ by a task, a pytree of parameters.

A family draws tasks and builds the environment of a task. All methods are pure,
and a task may be traced: `jax.vmap` over tasks builds one environment per task.

  family = envs.family('acrobot')
  task = family.sample_task(key)
  env = envs.fixed(family, task)  # This task, for any number of episodes.
  env = envs.Tasked(family)       # A new task for every episode.

The environment of a task treats the task as a constant. Only `Tasked` keeps
tasks in the environment state.
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
# Seed of the test tasks, for a family that does not list them.
_TEST_SEED = 0x7461736B


class TaskError(errors.UserError, ValueError):
  """An environment has no tasks, or a function needs a hidden task.

  It is also raised for task options that are not allowed.
  """


class Family(abc.ABC):
  """Environments of one kind that differ by their task.

  A subclass sets `nominal` and implements `trained_range`, `world` and
  `describe`. By default tasks are uniform in the trained range, leaf by leaf. A
  family with a finite set of tasks overrides `sample_task` (with `choose`) and
  `test_tasks`.

  Attributes:
    nominal: an environment of the family. It provides what is the same for all
      tasks: sizes, spaces, limits, the models' input and the scene.
    schedule: the default of when tasks change: `episode`, or `switch` for
      changes within an episode.
    switch_period: steps between changes within an episode.
    num_test_tasks: number M of test tasks, if they are drawn.
    rewards_by_task: whether `reward` depends on the task. If it does, it cannot
      be computed from observations that hide the task.
    ends_by_task: the same for `done`.
  """

  nominal: base.Environment
  schedule: str = 'episode'
  switch_period: int = 300
  num_test_tasks: int = 20
  rewards_by_task: bool = False
  ends_by_task: bool = False

  @abc.abstractmethod
  def trained_range(self) -> tuple[Task, Task]:
    """Returns the smallest and the largest training task, leaf by leaf."""

  @abc.abstractmethod
  def world(self, task: Task, prepared: Any) -> base.Environment:
    """Returns the environment of a task, with the sizes and types of `nominal`.

    It must be cheap, because every step calls it.

    Args:
      task: may be traced.
      prepared: the result of `prepare(task)`.
    """

  @abc.abstractmethod
  def describe(self, task: Task) -> str:
    """Describes a task that is not traced, in a few words."""

  def prepare(self, task: Task) -> Any:
    """Returns what is computed once per task, a pytree; empty by default.

    Use it for computations as expensive as a step, such as the derived fields
    of a body (`physics.scaled`).
    """
    del task
    return ()

  def sample_task(self, rng: jax.Array, split: str = 'train') -> Task:
    """Draws a task uniformly from `trained_range`; consumes `rng`.

    Args:
      rng: a raw key.
      split: `train` or `test`. The default implementation ignores it; a family
        with a separate test distribution overrides this method.
    """
    del split
    low, high = self.trained_range()
    leaves, structure = jax.tree.flatten(low)
    keys = jax.tree.unflatten(structure, [*jax.random.split(rng, len(leaves))])
    return jax.tree.map(_uniform, keys, low, high)

  def next_task(self, rng: jax.Array, task: Task, split: str = 'train') -> Task:
    """Returns the task that follows `task` within an episode; consumes `rng`.

    By default it is drawn by `sample_task`.
    """
    del task
    return self.sample_task(rng, split)

  def test_tasks(self) -> Task:
    """Returns the fixed set of tasks for evaluations, leaves [M, ...]."""
    keys = jax.random.split(jax.random.PRNGKey(_TEST_SEED), self.num_test_tasks)
    return jax.vmap(lambda key: self.sample_task(key, 'test'))(keys)

  @property
  def task_size(self) -> int:
    """The length D of `vector`."""
    return sum(leaf.size for leaf in jax.tree.leaves(self._shapes()))

  def vector(self, task: Task) -> jax.Array:
    """Returns all numbers of a task as one vector [D]."""
    return jnp.concatenate(
      [jnp.ravel(leaf).astype(float) for leaf in jax.tree.leaves(task)]
    )

  def from_vector(self, vector: jax.Array) -> Task:
    """Returns the task of a `vector` [D]; integer leaves are rounded."""
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
  """Draws one of the tasks [M, ...] uniformly; consumes `rng`."""
  index = jax.random.randint(rng, (), 0, count(tasks))
  return at(tasks, index)


def at(tasks: Task, index: jax.Array | int) -> Task:
  """Returns the task at `index` of several tasks, leaves [M, ...] -> [...]."""
  return jax.tree.map(lambda leaf: leaf[index], tasks)


def count(tasks: Task) -> int:
  """Returns the number M of tasks, whose leaves are [M, ...]."""
  return jax.tree.leaves(tasks)[0].shape[0]


def outside_trained_range(family: Family, tasks: Task) -> list[int]:
  """Returns the indices of the tasks [M, ...] outside the trained range.

  Computed on the host, with a relative tolerance of 1e-6 for rounding in single
  precision.
  """
  low, high = family.trained_range()
  outside = np.zeros(count(tasks), bool)
  for values, least, most in _bounds(tasks, low, high):
    slack = 1e-6 * (np.abs(least) + np.abs(most))
    beyond = ~((values >= least - slack) & (values <= most + slack))
    outside |= beyond.reshape(len(outside), -1).any(1)
  return np.flatnonzero(outside).tolist()


def warning_outside(family: Family, tasks: Task) -> str | None:
  """A one-line warning about tasks outside the trained range, or `None`."""
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
