"""The buffer's transitions by task, as points, and random sets of them."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models.neural_process import config
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.objectives import elbo
from mbmpo_jax.rollouts import buffer as buffer_lib


class Data(NamedTuple):
  """All points of a buffer of C slots, and the task of each."""

  points: sets.Points  # [C, ...], masked for empty slots
  task: jax.Array  # [C] int32, the task's number


def of_buffer(
  buffer: buffer_lib.Buffer,
  env: envs_base.Environment,
  section: config.Surrogate,
) -> Data:
  """The points of a buffer whose `extras` are task numbers [C].

  Args:
    buffer: of transitions.
    env: gives `model_input` and `change`.
    section: gives `target`.
  """
  points = sets.of_transitions(
    buffer.data,
    buffer_lib.mask(buffer),
    model_input=env.model_input,
    target=section.target,
    change=env.change,
  )
  return Data(points, buffer.data.extras)


def choose(
  data: Data, current: jax.Array, key: jax.Array, *, kind: str, num: int
) -> jax.Array:
  """Samples task numbers, int32 [num].

  Args:
    data: of all tasks.
    current: int32 [], the current task.
    key: consumed.
    kind: `current`, or `all`, with probabilities proportional to the number of
      points of each task.
    num: number of samples.
  """
  if kind == 'current':
    return jnp.broadcast_to(current, (num,))
  counts = jnp.cumsum(data.points.mask > 0, dtype=jnp.int32)
  places = jax.random.randint(key, (num,), 0, jnp.maximum(counts[-1], 1))
  return data.task[_slots(counts, places)]


def draw(
  data: Data, task: jax.Array, key: jax.Array, *, count: int
) -> sets.Points:
  """Random points [count, ...] of a task, without repetition.

  If the task has n rows, min(n, count) points are live. The n rows in order of
  time, shifted cyclically by a random offset, are split into `count` equal
  parts, and one row of each part is chosen. All rows have the same probability,
  and no sort of the buffer is needed.

  Args:
    data: of all tasks.
    task: int32 [], the task's number.
    key: consumed.
    count: number of points.
  """
  chex.assert_rank(task, 0)
  alive = (data.points.mask > 0) & (data.task == task[None])
  counts = jnp.cumsum(alive, dtype=jnp.int32)
  total = counts[-1]
  first_key, place_key = jax.random.split(key)
  first = jax.random.randint(first_key, (), 0, jnp.maximum(total, 1))
  # Part i is [i n / count, (i + 1) n / count); no product i n may overflow.
  parts = jnp.arange(count + 1, dtype=jnp.int32)
  bounds = parts * (total // count) + parts * (total % count) // count
  low, high = bounds[:-1], bounds[1:]
  drawn = jax.random.randint(
    place_key, (count,), low, jnp.maximum(high, low + 1)
  )
  slots = _slots(counts, (drawn + first) % jnp.maximum(total, 1))
  x, y = data.points.x[slots], data.points.y[slots]
  mask = (high > low).astype(data.points.mask.dtype)
  return sets.live(sets.Points(x, y, mask))


def context(
  data: Data, task: jax.Array, key: jax.Array, *, section: config.Surrogate
) -> sets.Points:
  """A random context of a task, of a random size.

  The size is uniform in [min_context, context_size], limited by the number of
  points.

  Args:
    data: of all tasks.
    task: int32 [], the task's number.
    key: consumed.
    section: gives `min_context` and `context_size`.
  """
  draw_key, split_key = jax.random.split(key)
  room = section.context_size
  points = draw(data, task, draw_key, count=room)
  kept, _ = elbo.split(
    points,
    split_key,
    context_size=room,
    target_size=1,
    min_context=section.min_context,
    min_targets=0,
  )
  return kept


def _slots(counts: jax.Array, places: jax.Array) -> jax.Array:
  """The slots of the `places`-th rows, given running counts [C]; 0 if none.

  Row n is in the first slot whose count exceeds n.
  """
  slots = jnp.searchsorted(counts, places, side='right')
  return jnp.where(counts[-1] > 0, slots, 0)
