"""A ring buffer of fixed capacity, stored on the device.

A row is any pytree, usually a `types.Transition`. Every leaf of the stored data
has the leading axis capacity [C].
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import masking
from mbmpo_jax import types

_SHOWN = 6  # numbers in a message


class Buffer(NamedTuple):
  """The stored rows; slots from `size` on are empty."""

  data: Any  # every leaf [C, ...]
  position: jax.Array  # int32 scalar, the slot to be written next
  size: jax.Array  # int32 scalar, number of slots that hold a row


def init(capacity: int, example: Any) -> Buffer:
  """An empty buffer of `capacity` slots.

  Args:
    capacity: C.
    example: one row, as arrays or as their shapes and dtypes.

  Example:
    >>> ring = init(3, {'x': jnp.zeros(2), 'n': jnp.int32(0)})
    >>> ring.data['x'].shape, ring.data['n'].dtype
    ((3, 2), dtype('int32'))
  """
  return Buffer(
    data=jax.tree.map(
      lambda x: jnp.zeros((capacity, *jnp.shape(x)), x.dtype), example
    ),
    position=jnp.int32(0),
    size=jnp.int32(0),
  )


def init_transitions(
  capacity: int, observation_size: int, action_size: int
) -> Buffer:
  """An empty buffer of transitions without extras."""
  number = jnp.zeros(())
  index = jnp.zeros((), jnp.int32)
  obs = jnp.zeros(observation_size)
  return init(
    capacity,
    types.Transition(
      obs=obs,
      action=jnp.zeros(action_size),
      reward=number,
      next_obs=obs,
      terminated=number,
      truncated=number,
      episode=index,
      time=index,
    ),
  )


def add(buffer: Buffer, rows: Any) -> Buffer:
  """Appends `rows` [B, ...], oldest first; overwrites the oldest when full.

  A row with a number that is not finite, or larger than 1e10 in magnitude, is
  left out (`masking.sound_rows`), because one such row would spoil the moments
  of the whole buffer.

  Args:
    buffer: of capacity C.
    rows: JAX or NumPy arrays, or lists of numbers, in a tree like the buffer's.
      The steps of an episode must be consecutive and in order, so that
      histories can be cut from the ring.

  Raises:
    ValueError: in one line, if B exceeds C, the tree or the shape of a leaf
      does not match the buffer, or an integer leaf gets numbers that are not
      whole. For transitions, also if an action is outside of [-1, 1]. The
      values of traced arrays are not checked.

  Example:
    Three steps of one episode, as NumPy arrays:

    >>> import numpy as np
    >>> steps = types.Transition(
    ...   obs=np.zeros((3, 4)),
    ...   action=np.zeros((3, 2)),
    ...   reward=np.ones(3),
    ...   next_obs=np.zeros((3, 4)),
    ...   terminated=np.array([0.0, 0.0, 1.0]),
    ...   truncated=np.zeros(3),
    ...   episode=np.zeros(3, int),
    ...   time=np.arange(3),
    ... )
    >>> ring = init_transitions(5, observation_size=4, action_size=2)
    >>> ring = add(add(ring, steps), steps)
    >>> int(ring.size), int(ring.position)
    (5, 1)
  """
  capacity = _capacity(buffer)
  rows = _arrays(buffer, rows)
  _check(buffer, rows, capacity)
  if isinstance(rows, types.Transition):
    _check_actions(rows.action)
  if not jax.tree.leaves(rows)[0].shape[0]:
    return buffer
  sound = masking.sound_rows(rows)
  before = jnp.cumsum(sound, dtype=jnp.int32) - sound
  # Rows that are left out get the slot C, which is not written.
  slots = jnp.where(sound, (buffer.position + before) % capacity, capacity)
  written = jnp.sum(sound, dtype=jnp.int32)
  return Buffer(
    data=jax.tree.map(
      lambda stored, new: stored.at[slots].set(new, mode='drop'),
      buffer.data,
      rows,
    ),
    position=(buffer.position + written) % capacity,
    size=jnp.minimum(buffer.size + written, capacity),
  )


def sample(buffer: Buffer, key: jax.Array, *, count: int) -> Any:
  """A minibatch of `count` rows, uniform with replacement; consumes `key`.

  The buffer must not be empty.
  """
  slots = jax.random.randint(key, (count,), 0, buffer.size)
  return rows_at(buffer, slots)


def sample_newest(
  buffer: Buffer, key: jax.Array, *, count: int, newest: int
) -> Any:
  """As `sample`, but only from the `newest` rows, or all if there are fewer."""
  most = jnp.clip(buffer.size, 1, newest)
  age = jax.random.randint(key, (count,), 0, most)
  return rows_at(buffer, (buffer.position - 1 - age) % _capacity(buffer))


def sample_by_task(
  buffer: Buffer,
  key: jax.Array,
  task: jax.Array,
  *,
  num_tasks: int,
  count: int,
) -> tuple[Any, jax.Array]:
  """A minibatch of rows for each task, uniform with replacement.

  Args:
    buffer: of capacity C.
    key: consumed.
    task: the task index of every slot, int [C], starting at 0.
    num_tasks: P.
    count: rows per task, B.

  Returns:
    Rows `[P, B, ...]` and a mask `[P, B]`. The mask is 0 for a task without
    rows; its rows are then arbitrary.
  """
  chex.assert_rank(task, 1)
  chex.assert_axis_dimension(task, 0, _capacity(buffer))
  stored = mask(buffer) > 0

  def of_task(index: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Row n of the task is in the first slot whose count of rows exceeds n.
    counts = jnp.cumsum(stored & (task == index), dtype=jnp.int32)
    total = counts[-1]
    drawn = jax.random.randint(key, (count,), 0, jnp.maximum(total, 1))
    slots = jnp.searchsorted(counts, drawn, side='right')
    return jnp.where(total > 0, slots, 0), jnp.full(count, total > 0)

  slots, known = jax.vmap(of_task)(
    jnp.arange(num_tasks), jax.random.split(key, num_tasks)
  )
  return rows_at(buffer, slots), known.astype(float)


def rows_at(buffer: Buffer, slots: jax.Array) -> Any:
  """The rows in the given slots, leaves `[*slots.shape, ...]`."""
  return jax.tree.map(lambda stored: stored[slots], buffer.data)


def mask(buffer: Buffer) -> jax.Array:
  """1. where a slot [C] holds a row, otherwise 0."""
  return (jnp.arange(_capacity(buffer)) < buffer.size).astype(float)


def newest(buffer: Buffer, since: jax.Array, *, added: jax.Array) -> jax.Array:
  """1. for slots [C] that were written since an earlier `position`.

  Args:
    buffer: of capacity C.
    since: the earlier `position`, the slot that was to be written next.
    added: whether anything was added since; at most C rows.
  """
  capacity = _capacity(buffer)
  written = (buffer.position - since) % capacity
  all_of_it = (written == 0) & (added > 0) & (buffer.size == capacity)
  return last(buffer, jnp.where(all_of_it, capacity, written))


def last(buffer: Buffer, count: jax.Array) -> jax.Array:
  """1. for slots [C] that hold one of the `count` newest rows.

  All stored rows, if there are fewer.
  """
  capacity = _capacity(buffer)
  age = (buffer.position - 1 - jnp.arange(capacity)) % capacity
  return (age < jnp.minimum(count, buffer.size)).astype(float)


def _capacity(buffer: Buffer) -> int:
  return jax.tree.leaves(buffer.data)[0].shape[0]


def _arrays(buffer: Buffer, rows: Any) -> Any:
  """`rows` with array leaves, as integers where the stored leaves are."""
  structure: Any = jax.tree.structure(buffer.data)
  try:
    leaves = structure.flatten_up_to(rows)
  except ValueError as error:
    raise ValueError(
      f'rows are {jax.tree.structure(rows)}: must be {structure}, as in the'
      ' buffer'
    ) from error
  stored = jax.tree_util.tree_leaves_with_path(buffer.data)
  return jax.tree.unflatten(
    structure,
    [
      _array(f'rows{_name(path)}', leaf, of_buffer.dtype)
      for (path, of_buffer), leaf in zip(stored, leaves, strict=True)
    ],
  )


def _array(name: str, leaf: Any, dtype: Any) -> Any:
  if isinstance(leaf, jax.core.Tracer):
    return leaf
  if not isinstance(leaf, jax.Array):
    try:
      leaf = np.asarray(leaf)
    except ValueError as error:
      raise ValueError(f'{name}: must have rows of equal length') from error
  if leaf.dtype.kind not in 'biuf' and not jnp.issubdtype(
    leaf.dtype, jnp.floating
  ):
    raise ValueError(f'{name} has type {leaf.dtype}: must be numbers')
  if jnp.issubdtype(dtype, jnp.integer) and leaf.dtype.kind == 'f':
    numbers = np.asarray(leaf)
    if not np.all(numbers == np.round(numbers)):
      raise ValueError(f'{name}: must be whole numbers')
    return numbers.astype(dtype)
  return leaf


def _check_actions(actions: Any) -> None:
  if isinstance(actions, jax.core.Tracer):
    return
  size = np.abs(np.asarray(actions))
  # Actions that are not finite are left out later; they are no error.
  most = np.max(np.where(np.isfinite(size), size, 0.0), axis=0, initial=0.0)
  if np.any(most > 1 + 1e-6):
    limits = ', '.join(f'{max(x, 1.0):.4g}' for x in most[:_SHOWN])
    more = ', ...' if most.size > _SHOWN else ''
    raise ValueError(
      f'rows.action reaches {most.max():.4g}: must be within [-1, 1]; divide'
      " each dimension by its actuator's limit, at least"
      f' [{limits}{more}]'
    )


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path).replace("['", '.').replace("']", '')


def _check(buffer: Buffer, rows: Any, capacity: int) -> None:
  stored = jax.tree_util.tree_leaves_with_path(buffer.data)
  new = jax.tree.leaves(rows)
  if not all(x.ndim for x in new):
    raise ValueError('rows: must have a leading axis of rows, [B, ...]')
  count = new[0].shape[0]
  if count > capacity:
    raise ValueError(
      f'rows: there are {count}: must be <= {capacity}, the buffer capacity'
    )
  for (path, leaf), x in zip(stored, new, strict=True):
    if x.shape != (count, *leaf.shape[1:]):
      raise ValueError(
        f'rows{_name(path)} has shape {list(x.shape)}: must be'
        f' {[count, *leaf.shape[1:]]}'
      )
