"""What the buffer knows of each task: points, and random sets of them."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models.neural_process import config
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.rollouts import buffer as buffer_lib


class Data(NamedTuple):
  """All points of a buffer of C slots, and the task of each."""

  points: sets.Points  # [C, ...], masked where there is none
  task: jax.Array  # [C] int32, the task's number


def of_buffer(
  buffer: buffer_lib.Buffer,
  env: envs_base.Environment,
  section: config.Surrogate,
) -> Data:
  """The points of a buffer whose `extras` are tasks' numbers [C].

  Args:
    buffer: of transitions.
    env: has `model_input`.
    section: has `target`.
  """
  points = sets.of_transitions(
    buffer.data,
    buffer_lib.mask(buffer),
    model_input=env.model_input,
    target=section.target,
  )
  return Data(points, buffer.data.extras)


def choose(
  data: Data, current: jax.Array, key: jax.Array, *, kind: str, num: int
) -> jax.Array:
  """Numbers of tasks, int32 [num]; consumes `key`.

  Args:
    data: of all tasks.
    current: int32 [], the current task.
    key: consumed.
    kind: `current`, or `all`: each in proportion to its points.
    num: how many.
  """
  if kind == 'current':
    return jnp.broadcast_to(current, (num,))
  return data.task[_rows(data.points.mask > 0, key, num)[0]]


def draw(
  data: Data, task: jax.Array, key: jax.Array, *, count: int
) -> sets.Points:
  """Random points [count, ...] of a task, none of them twice.

  Rows are drawn with replacement; what was drawn before is masked.

  Args:
    data: of all tasks.
    task: int32 [], its number.
    key: consumed.
    count: rows; fewer are live.
  """
  chex.assert_rank(task, 0)
  alive = (data.points.mask > 0) & (data.task == task[None])
  slots, known = _rows(alive, key, count)
  same = slots[:, None] == slots[None]
  again = jnp.any(jnp.tril(same, -1), -1)
  x, y = data.points.x[slots], data.points.y[slots]
  mask = (known & ~again).astype(data.points.mask.dtype)
  return sets.live(sets.Points(x, y, mask))


def context(
  data: Data, task: jax.Array, key: jax.Array, *, section: config.Surrogate
) -> sets.Points:
  """A random context of a task, of a random size; consumes `key`.

  At most a number uniform in [min_context, context_size] of its points.

  Args:
    data: of all tasks.
    task: int32 [], its number.
    key: consumed.
    section: says between how few and how many.
  """
  draw_key, count_key = jax.random.split(key)
  room = section.context_size
  count = jax.random.randint(count_key, (), section.min_context, room + 1)
  points = draw(data, task, draw_key, count=room)
  before = jnp.cumsum(points.mask) - points.mask
  kept = jnp.where(before < count.astype(before.dtype), points.mask, 0.0)
  return sets.live(points._replace(mask=kept))


def _rows(
  alive: jax.Array, key: jax.Array, num: int
) -> tuple[jax.Array, jax.Array]:
  """Slots [num] of rows where `alive` [C]; whether there is any, bool [num]."""
  # The n-th such row is where their count passes n.
  counts = jnp.cumsum(alive, dtype=jnp.int32)
  total = counts[-1]
  drawn = jax.random.randint(key, (num,), 0, jnp.maximum(total, 1))
  slots = jnp.searchsorted(counts, drawn, side='right')
  return jnp.where(total > 0, slots, 0), jnp.full(num, total > 0)
