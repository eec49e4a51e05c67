"""Functions of one task, mapped over all; means over tasks.

Tasks lead every array with two axes [K, P]: the p-th of those of member k.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import broadcasting


def over_tasks(fn: Callable, in_axes: int | tuple = 0) -> Callable:
  """`fn` mapped over the task axes [K, P]; `in_axes` 0 or None per argument."""
  return jax.vmap(jax.vmap(fn, in_axes), in_axes)


def map_tasks(fn: Callable, *args: Any) -> Any:
  """`fn` mapped over the task axes [K, P], where a task's samples are many.

  On a CPU in turn, so that what a task's passes read is still in the cache;
  elsewhere all at once.
  """

  def in_turn(*args: Any) -> Any:
    # One loop over both axes, as each loop copies what its step reads.
    axes = jax.tree.leaves(args)[0].shape[:2]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), args)
    results = jax.lax.map(lambda args: fn(*args), flat)
    return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), results)

  return backend.in_turn_or_at_once(in_turn, over_tasks(fn), *args)


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
