"""Random permutations of rows, cheap enough for one per epoch.

XLA sorts one array of integers several times as fast as indices by random keys.
So an index is the lower bits of its key, and a radix sort makes up for the bits
that this takes.
"""

import functools

import jax
import jax.numpy as jnp


def permutation(key: jax.Array, valid: jax.Array) -> jax.Array:
  """The indices of `valid` [C] in a random order, followed by the others.

  Ties, of at most 8 rows on average, keep their order. They stay together, so
  that nearly all of them are in the same minibatch, where order means nothing.

  Args:
    key: consumed.
    valid: bool; up to 2^30 rows.
  """
  capacity = valid.shape[0]
  index_bits, num_rounds = _layout(capacity)
  index_mask = jnp.uint32(2**index_bits - 1)
  places = jnp.arange(capacity, dtype=jnp.uint32)
  order = jnp.arange(capacity)
  for bits in jax.random.bits(key, (num_rounds, capacity), jnp.uint32):
    # The highest bit puts those that are not valid last.
    invalid_bit = jnp.where(valid[order], jnp.uint32(0), jnp.uint32(1 << 31))
    keys = jnp.sort(invalid_bit | ((bits >> 1) & ~index_mask) | places)
    order = order[(keys & index_mask).astype(order.dtype)]
  return order


def prefix_permutation(
  key: jax.Array, count: jax.Array, capacity: int
) -> jax.Array:
  """The indices below `count` in a random order, then anything, [capacity].

  Sorts a sixteenth, a quarter or all of the table, the least that holds
  `count`; all three where `count` is vmapped, as over seeds.

  Args:
    key: consumed.
    count: at most `capacity`.
    capacity: of the table.
  """

  def of_size(size: int) -> jax.Array:
    order = permutation(key, jnp.arange(size) < count)
    return jnp.pad(order, (0, capacity - size))

  sizes = [-(-capacity // 16), -(-capacity // 4), capacity]
  branch = sum((count > size).astype(jnp.int32) for size in sizes[:-1])
  return jax.lax.switch(
    branch, [functools.partial(of_size, size) for size in sizes]
  )


def _layout(capacity: int) -> tuple[int, int]:
  """Bits of a key for the index, and rounds with the other 31 minus these."""
  index_bits = (capacity - 1).bit_length()
  # Three bits less than an index has: eight rows then agree in all of them.
  return index_bits, max(1, -(-(index_bits - 3) // (31 - index_bits)))
