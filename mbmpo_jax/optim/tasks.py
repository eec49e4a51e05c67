"""Functions of one task, mapped over all; means over tasks.

Tasks lead every array with two axes [K, P]: the p-th of those of member k.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting

# On a CPU: more of them crowd the cache, one leaves cores without work.
_AT_ONCE = 2


def over_tasks(fn: Callable, in_axes: int | tuple = 0) -> Callable:
  """`fn` mapped over the task axes [K, P]; `in_axes` 0 or None per argument."""
  return jax.vmap(jax.vmap(fn, in_axes), in_axes)


def map_tasks(fn: Callable, *args: Any) -> Any:
  """`fn` mapped over the task axes [K, P], where a task's samples are many.

  On a CPU in groups of two, one group after the other, so that what its passes
  read is still in the cache; elsewhere all at once.
  """
  fn = jax.jit(fn)  # Traced once for all of a group.
  axes = jax.tree.leaves(args)[0].shape[:2]
  at_once = math.gcd(math.prod(axes), _AT_ONCE)

  def group(args: Any) -> Any:
    # Not vmapped: matrix products of one task are faster than a batch of them.
    results = [
      fn(*jax.tree.map(lambda x, index=index: x[index], args))
      for index in range(at_once)
    ]
    return jax.tree.map(lambda *x: jnp.stack(x), *results)

  def in_turn(*args: Any) -> Any:
    # One loop over both axes, as each loop copies what its step reads.
    groups = jax.tree.map(lambda x: x.reshape(-1, at_once, *x.shape[2:]), args)
    results = jax.lax.map(group, groups)
    return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[2:]), results)

  return jax.lax.platform_dependent(*args, cpu=in_turn, default=over_tasks(fn))


def weights(
  accepted: jax.Array, all_sum: Callable[[Any], Any] = lambda tree: tree
) -> jax.Array:
  """w_i [K, P], equal for the `accepted` tasks and 0 for others; they sum to 1.

  All are 0 if none is accepted.

  Args:
    accepted: 1. or 0. [K, P], or unequal weights.
    all_sum: over devices, where each has its share of the tasks.
  """
  total = all_sum(jnp.sum(accepted))
  return accepted / jnp.where(total > 0, total, 1.0)


def mean(x: jax.Array, weight: jax.Array) -> jax.Array:
  """The mean of `x` [K, P, ...] over tasks, by their `weights` [K, P]."""
  weight = broadcasting.trailing(weight, x.ndim)
  return jnp.sum(jnp.where(weight > 0, x, 0.0) * weight, (0, 1))
