"""Random permutations of rows, cheap enough for one per epoch.

XLA sorts one array of integers several times as fast as it sorts indices by
random keys. Therefore an index is stored in the lower bits of its random key. A
radix sort of several rounds makes up for the lost random bits.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# A table with more rows is large; no preset's fit has a large table.
_LARGE = 2**18


def permutation(key: jax.Array, valid: jax.Array) -> jax.Array:
  """The indices of `valid` [C] rows in a random order, followed by the others.

  Groups of rows with equal random bits, at most 8 rows on average, keep their
  order. They stay adjacent, so nearly all of them are in one minibatch, where
  the order does not matter.

  Args:
    key: consumed.
    valid: bool, `[C]` with C up to 2^30.
  """
  capacity = valid.shape[0]
  index_bits, num_rounds = _layout(capacity)
  index_mask = jnp.uint32(2**index_bits - 1)
  places = jnp.arange(capacity, dtype=jnp.uint32)
  order = jnp.arange(capacity)
  for bits in jax.random.bits(key, (num_rounds, capacity), jnp.uint32):
    # The highest bit sorts invalid rows to the end.
    invalid_bit = jnp.where(valid[order], jnp.uint32(0), jnp.uint32(1 << 31))
    keys = jnp.sort(invalid_bit | ((bits >> 1) & ~index_mask) | places)
    order = order[(keys & index_mask).astype(order.dtype)]
  return order


def prefix_permutation(
  key: jax.Array, count: jax.Array, capacity: int
) -> jax.Array:
  """The indices below `count` in random order, then anything, [capacity].

  Sorts only the least sufficient part of the table: a sixteenth, a quarter, or
  all of it; for a large table also those of `sizes`. If `count` is vmapped, as
  over seeds, all parts are sorted.

  Args:
    key: consumed.
    count: at most `capacity`.
    capacity: number of rows of the table.
  """

  def of_size(size: int) -> jax.Array:
    order = permutation(key, jnp.arange(size) < count)
    return jnp.pad(order, (0, capacity - size))

  parts = {-(-capacity // 16), -(-capacity // 4), *sizes(capacity)}
  return by_size(of_size, count, sorted(parts))


def sizes(capacity: int) -> list[int]:
  """Numbers of rows of a table to process, depending on how many are filled.

  For a small table only `capacity`; for a large one increasing sizes up to it.
  """
  if capacity <= _LARGE:
    return [capacity]
  found = []
  size = _LARGE // 8
  while size < capacity:
    found.append(size)
    size *= 8
  return [*found, capacity]


def by_size(
  function: Callable[[int], Any], count: jax.Array, sizes: Sequence[int]
) -> Any:
  """`function(size)` for the least of `sizes` that is at least `count`.

  Args:
    function: its results must have the same shapes for all sizes.
    count: at most the last size; traced.
    sizes: in increasing order.
  """
  if len(sizes) == 1:
    return function(sizes[0])
  branch = sum((count > size).astype(jnp.int32) for size in sizes[:-1])
  return jax.lax.switch(
    branch, [functools.partial(function, size) for size in sizes]
  )


def _layout(capacity: int) -> tuple[int, int]:
  """Bits of a key for the index, and the number of rounds of a sort."""
  index_bits = (capacity - 1).bit_length()
  # The random bits may be three fewer than the index's: 8 rows then tie.
  return index_bits, max(1, -(-(index_bits - 3) // (31 - index_bits)))
