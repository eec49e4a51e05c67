"""Windows of consecutive steps, cut from the ring of transitions.

A window contains no other episode, no gap of transitions that were left out,
and no seam of the ring. A row belongs to a window only if its episode is that
of the window's last row, its `time` is smaller by the expected number, and all
rows in between belong to the window, too.

If the steps of one environment are stored consecutively, the previous step is
one slot earlier. If the steps of `num_envs` environments alternate
(`off_policy.collect`), it is `num_envs` slots earlier.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax.rollouts import buffer as buffer_lib


def before(
  buffer: buffer_lib.Buffer,
  slots: jax.Array,
  *,
  length: int,
  num_envs: int = 1,
) -> tuple[Any, jax.Array]:
  """The `length` steps before each of the rows in `slots`, oldest first.

  This is the history of a policy with a memory of L steps when it acted there.

  Args:
    buffer: of transitions, with fields `episode` and `time`.
    slots: `[B]`, slots that hold a row.
    length: L.
    num_envs: number of environments whose steps alternate in the ring.

  Returns:
    Rows, leaves `[B, L, ...]`, and a mask `[B, L]`. Rows are zero where the
    mask is 0: before the episode began, and at or before a row that was left
    out or overwritten.
  """
  return _window(buffer, slots, jnp.arange(length, 0, -1), num_envs)


def ending(
  buffer: buffer_lib.Buffer, slots: jax.Array, *, length: int
) -> tuple[Any, jax.Array]:
  """The windows of `length` steps that end with the rows in `slots`.

  As `before`, but the last step of each window is the row itself.

  Args:
    buffer: of transitions, with fields `episode` and `time`.
    slots: `[B]`, slots that hold a row.
    length: L.

  Returns:
    Rows, leaves `[B, L, ...]`, and a mask `[B, L]`, as for `before`.
  """
  return _window(buffer, slots, jnp.arange(length - 1, -1, -1), 1)


def whole(buffer: buffer_lib.Buffer, *, length: int) -> jax.Array:
  """1. where the window of `length` steps that ends with a slot [C] is whole.

  No step of a whole window is before the episode's start, left out or
  overwritten.

  Args:
    buffer: of C slots, with fields `episode` and `time`.
    length: L.
  """
  rows = jnp.arange(buffer.data.time.shape[0])
  found = _found(buffer, rows, jnp.arange(length - 1, -1, -1), 1)[1]
  return jnp.all(found, -1).astype(float)


def shifted(window: Any, new: Any, *, axis: int) -> Any:
  """The window without its oldest entry, and with `new` appended.

  Args:
    window: leaves `[..., L, ...]`, with L at `axis`.
    new: the same tree without that axis.
    axis: number of axes before L.

  Example:
    >>> import jax.numpy as jnp
    >>> shifted(jnp.array([1, 2, 3]), jnp.array(4), axis=0).tolist()
    [2, 3, 4]
  """

  def shift(past: jax.Array, new: jax.Array) -> jax.Array:
    kept = jax.lax.slice_in_dim(past, 1, past.shape[axis], axis=axis)
    return jnp.concatenate([kept, jnp.expand_dims(new, axis)], axis)

  return jax.tree.map(shift, window, new)


def _window(
  buffer: buffer_lib.Buffer, slots: jax.Array, back: jax.Array, num_envs: int
) -> tuple[Any, jax.Array]:
  """The rows `back` [L] steps before `slots` [B], zero where missing."""
  chex.assert_rank(slots, 1)
  places, found = _found(buffer, slots, back, num_envs)

  def cut(stored: jax.Array) -> jax.Array:
    rows = stored[places]
    flags = broadcasting.trailing(found, rows.ndim)
    return jnp.where(flags, rows, jnp.zeros_like(rows))

  return jax.tree.map(cut, buffer.data), found.astype(float)


def _found(
  buffer: buffer_lib.Buffer, slots: jax.Array, back: jax.Array, num_envs: int
) -> tuple[jax.Array, jax.Array]:
  """The slots `back` [L] steps before `slots` [B], and whether they exist.

  `back` is in descending order. A window begins after the last missing step.
  """
  data = buffer.data
  capacity = data.time.shape[0]
  due = data.time[slots][:, None] - back[None]

  def at(stride: int) -> tuple[jax.Array, jax.Array]:
    places = (slots[:, None] - stride * back[None]) % capacity
    same = data.episode[places] == data.episode[slots][:, None]
    # Rows are in order: beyond a gap `time` is less than `due`. An empty slot
    # is all zeros, which may look like a first step.
    return places, same & (data.time[places] == due) & (places < buffer.size)

  places, found = at(1)
  if num_envs > 1:
    further, there = at(num_envs)
    # Episodes from outside are whole: their steps follow each other. Beside a
    # row that was left out, steps have neither place, and the window ends.
    places, found = jnp.where(there, further, places), found | there
  unbroken = jax.lax.cumprod(found.astype(jnp.int32), axis=1, reverse=True)
  return places, unbroken > 0
