"""Windows of consecutive steps, cut from the ring of transitions.

A window crosses no episode, no transition that was left out, and no seam of the
ring: the row j slots before another belongs to it only if it is of the same
episode and its `time` is j less.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.rollouts import buffer as buffer_lib


def before(
  buffer: buffer_lib.Buffer, slots: jax.Array, *, length: int
) -> tuple[Any, jax.Array]:
  """The `length` steps before each of the rows in `slots`, oldest first.

  What a policy with a memory of L steps knew when it acted there.

  Args:
    buffer: of transitions, which say `episode` and `time`.
    slots: `[B]`, of rows that are stored.
    length: L.

  Returns:
    Rows, leaves `[B, L, ...]`, zero where the mask `[B, L]` is 0: before the
    episode began, or before a row that was left out or overwritten.
  """
  return _window(buffer, slots, jnp.arange(length, 0, -1))


def ending(
  buffer: buffer_lib.Buffer, slots: jax.Array, *, length: int
) -> tuple[Any, jax.Array]:
  """The windows of `length` steps that end with the rows in `slots`.

  As `before`, but the last step of each window is the row itself.
  """
  return _window(buffer, slots, jnp.arange(length - 1, -1, -1))


def whole(buffer: buffer_lib.Buffer, *, length: int) -> jax.Array:
  """1. where the window of `length` steps that ends with a slot [C] is whole.

  No step of it is missing: the episode had begun, and nothing was left out.
  """
  rows = jnp.arange(buffer.data.time.shape[0])
  return jnp.all(_found(buffer, rows, jnp.arange(length))[1], -1).astype(float)


def _window(
  buffer: buffer_lib.Buffer, slots: jax.Array, back: jax.Array
) -> tuple[Any, jax.Array]:
  """Rows `back` [L] steps before `slots` [B], where there are such."""
  chex.assert_rank(slots, 1)
  places, found = _found(buffer, slots, back)

  def cut(stored: jax.Array) -> jax.Array:
    rows = stored[places]
    flags = jnp.reshape(found, found.shape + (1,) * (rows.ndim - 2))
    return jnp.where(flags, rows, jnp.zeros_like(rows))

  return jax.tree.map(cut, buffer.data), found.astype(float)


def _found(
  buffer: buffer_lib.Buffer, slots: jax.Array, back: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The slots `back` [L] steps before `slots` [B]; where these steps are."""
  data = buffer.data
  capacity = data.time.shape[0]
  places = (slots[:, None] - back[None]) % capacity
  same = data.episode[places] == data.episode[slots][:, None]
  due = data.time[slots][:, None] - back[None]
  # Rows are in order: beyond a gap every `time` is less than the one due. A
  # slot that holds nothing yet is all zeros, as a first step may be.
  return places, same & (data.time[places] == due) & (places < buffer.size)
