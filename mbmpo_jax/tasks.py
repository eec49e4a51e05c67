"""Maps a function over tasks, and computes weighted means over tasks.

Arrays over tasks have two leading axes [K, P]: entry (k, p) belongs to the p-th
task of ensemble member k.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import broadcasting


def over_tasks(fn: Callable, in_axes: int | tuple = 0) -> Callable:
  """Returns `fn` vmapped over the axes [K, P]; `in_axes` as in `jax.vmap`."""
  return jax.vmap(jax.vmap(fn, in_axes), in_axes)


def map_tasks(fn: Callable, *args: Any) -> Any:
  """Maps `fn` over the axes [K, P] of `args`, for tasks with many samples.

  On a CPU the tasks run in a loop, so that the data that a task reads
  repeatedly stays in the cache. On other platforms they run as one batch.
  """

  def in_turn(*args: Any) -> Any:
    # One loop over both axes, because each loop copies what its step reads.
    axes = jax.tree.leaves(args)[0].shape[:2]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), args)
    results = jax.lax.map(lambda args: fn(*args), flat)
    return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), results)

  return backend.in_turn_or_at_once(in_turn, over_tasks(fn), *args)


def weights(
  accepted: jax.Array, all_sum: Callable[[Any], Any] = lambda tree: tree
) -> jax.Array:
  """Returns task weights w_i [K, P], proportional to `accepted`, that sum to 1.

  With 0-1 flags, the accepted tasks have equal weights and the others have 0.
  If no task is accepted, all weights are 0.

  Args:
    accepted: 1. or 0. for each task, [K, P]; or unequal weights.
    all_sum: sums over devices, if each device has a share of the tasks.
  """
  total = all_sum(jnp.sum(accepted))
  return accepted / jnp.where(total > 0, total, 1.0)


def mean(x: jax.Array, weight: jax.Array) -> jax.Array:
  """Returns the mean of `x` [K, P, ...] over tasks, with weights [K, P].

  The values of a task with weight 0 are ignored, even if they are NaN.

  Args:
    x: values per task.
    weight: the result of `weights`.
  """
  weight = broadcasting.trailing(weight, x.ndim)
  return jnp.sum(jnp.where(weight > 0, x, 0.0) * weight, (0, 1))
