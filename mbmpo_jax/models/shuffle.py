"""Random orders of rows, cheap enough for one per epoch.

XLA sorts one array of integers several times as fast as indices by random keys.
So an index is the lower bits of its key, and a radix sort makes up for the bits
that this takes.
"""

import functools

import jax
import jax.numpy as jnp

# What rows are sorted by, at the least. In a large table a few agree in all of
# them and keep their order: neighbours, of which a batch has many.
_RANDOM_BITS = 14


def all_valid(key: jax.Array, valid: jax.Array) -> jax.Array:
  """The indices of `valid` [C] in a random order, followed by the others.

  Args:
    key: consumed.
    valid: bool.
  """
  capacity = valid.shape[0]
  index_bits = (capacity - 1).bit_length()
  num_rounds = -(-_RANDOM_BITS // (31 - index_bits))
  index_mask = jnp.uint32(2**index_bits - 1)
  places = jnp.arange(capacity, dtype=jnp.uint32)
  order = jnp.arange(capacity)
  for bits in jax.random.bits(key, (num_rounds, capacity), jnp.uint32):
    # The highest bit puts those that are not valid last.
    last = jnp.where(valid[order], jnp.uint32(0), jnp.uint32(1 << 31))
    keys = jnp.sort(last | ((bits >> 1) & ~index_mask) | places)
    order = order[(keys & index_mask).astype(order.dtype)]
  return order


def first(key: jax.Array, count: jax.Array, capacity: int) -> jax.Array:
  """The indices below `count` in a random order, then anything, [capacity].

  Costs what a table of `4 * count` rows does, if `capacity` is more.

  Args:
    key: consumed.
    count: at most `capacity`.
    capacity: of the table.
  """

  def of_size(size: int) -> jax.Array:
    order = all_valid(key, jnp.arange(size) < count)
    return jnp.pad(order, (0, capacity - size))

  sizes = [-(-capacity // 16), -(-capacity // 4), capacity]
  smallest = sum((count > size).astype(jnp.int32) for size in sizes[:-1])
  return jax.lax.switch(
    smallest, [functools.partial(of_size, size) for size in sizes]
  )
