"""Windows of consecutive steps, cut from the ring of transitions.

A window crosses no episode, no transition that was left out, and no seam of the
ring: a row belongs to it only if it is of the same episode as the window's
last, and its `time` is as much less as it should be.

The step before another is looked for in the slot before it, where one
environment's steps are stored in a row; and, where the steps of `num_envs`
environments alternate (`off_policy.collect`), so many slots before.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.rollouts import buffer as buffer_lib


def before(
  buffer: buffer_lib.Buffer,
  slots: jax.Array,
  *,
  length: int,
  num_envs: int = 1,
) -> tuple[Any, jax.Array]:
  """The `length` steps before each of the rows in `slots`, oldest first.

  What a policy with a memory of L steps knew when it acted there.

  Args:
    buffer: of transitions, which say `episode` and `time`.
    slots: `[B]`, of rows that are stored.
    length: L.
    num_envs: environments whose steps alternate in the ring.

  Returns:
    Rows, leaves `[B, L, ...]`, zero where the mask `[B, L]` is 0: before the
    episode began, or before a row that was left out or overwritten.
  """
  return _window(buffer, slots, jnp.arange(length, 0, -1), num_envs)


def ending(
  buffer: buffer_lib.Buffer, slots: jax.Array, *, length: int
) -> tuple[Any, jax.Array]:
  """The windows of `length` steps that end with the rows in `slots`.

  As `before`, but the last step of each window is the row itself.
  """
  return _window(buffer, slots, jnp.arange(length - 1, -1, -1), 1)


def whole(buffer: buffer_lib.Buffer, *, length: int) -> jax.Array:
  """1. where the window of `length` steps that ends with a slot [C] is whole.

  No step of it is missing: the episode had begun, and nothing was left out.
  """
  rows = jnp.arange(buffer.data.time.shape[0])
  found = _found(buffer, rows, jnp.arange(length), 1)[1]
  return jnp.all(found, -1).astype(float)


def _window(
  buffer: buffer_lib.Buffer, slots: jax.Array, back: jax.Array, num_envs: int
) -> tuple[Any, jax.Array]:
  """Rows `back` [L] steps before `slots` [B], where there are such."""
  chex.assert_rank(slots, 1)
  places, found = _found(buffer, slots, back, num_envs)

  def cut(stored: jax.Array) -> jax.Array:
    rows = stored[places]
    flags = jnp.reshape(found, found.shape + (1,) * (rows.ndim - 2))
    return jnp.where(flags, rows, jnp.zeros_like(rows))

  return jax.tree.map(cut, buffer.data), found.astype(float)


def _found(
  buffer: buffer_lib.Buffer, slots: jax.Array, back: jax.Array, num_envs: int
) -> tuple[jax.Array, jax.Array]:
  """The slots `back` [L] steps before `slots` [B]; where these steps are.

  `back` falls, where environments alternate.
  """
  data = buffer.data
  capacity = data.time.shape[0]
  due = data.time[slots][:, None] - back[None]

  def at(stride: int) -> tuple[jax.Array, jax.Array]:
    places = (slots[:, None] - stride * back[None]) % capacity
    same = data.episode[places] == data.episode[slots][:, None]
    # Rows are in order: beyond a gap every `time` is less than the one due. A
    # slot that holds nothing yet is all zeros, as a first step may be.
    return places, same & (data.time[places] == due) & (places < buffer.size)

  places, found = at(1)
  if num_envs > 1:
    further, there = at(num_envs)
    places, found = jnp.where(there, further, places), found | there
    # Nor does a window go on beyond a step that is missing, where one that was
    # left out has moved the others.
    unbroken = jax.lax.cumprod(found.astype(jnp.int32), axis=1, reverse=True)
    found = unbroken > 0
  return places, found
