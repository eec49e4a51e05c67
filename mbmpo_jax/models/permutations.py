"""Random permutations of rows, cheap enough for one per epoch.

XLA sorts one array of integers several times as fast as indices by random keys.
So an index is the lower bits of its key, and a radix sort makes up for the bits
that this takes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# A table of more rows is a large one; that of no preset's fit is.
_LARGE = 2**18


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
  `count`, of a large one less (`sizes`); all of these where `count` is vmapped,
  as over seeds.

  Args:
    key: consumed.
    count: at most `capacity`.
    capacity: of the table.
  """

  def of_size(size: int) -> jax.Array:
    order = permutation(key, jnp.arange(size) < count)
    return jnp.pad(order, (0, capacity - size))

  parts = {-(-capacity // 16), -(-capacity // 4), *sizes(capacity)}
  return by_size(of_size, count, sorted(parts))


def sizes(capacity: int) -> list[int]:
  """How many rows of a table are looked at where so few are filled.

  All, unless it is large; the last is all.
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
  """`function(size)` with the least of some sizes that is at least `count`.

  Args:
    function: its results have the same shapes for all sizes.
    count: at most the last size; traced.
    sizes: in order.
  """
  if len(sizes) == 1:
    return function(sizes[0])
  branch = sum((count > size).astype(jnp.int32) for size in sizes[:-1])
  return jax.lax.switch(
    branch, [functools.partial(function, size) for size in sizes]
  )


def _layout(capacity: int) -> tuple[int, int]:
  """Bits of a key for the index, and rounds with the other 31 minus these."""
  index_bits = (capacity - 1).bit_length()
  # Three bits less than an index has: eight rows then agree in all of them.
  return index_bits, max(1, -(-(index_bits - 3) // (31 - index_bits)))
