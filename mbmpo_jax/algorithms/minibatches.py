"""Epochs over an iteration's data in shuffled minibatches, in one scan."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import masking
from mbmpo_jax.algorithms import on_policy_config

_Tree = TypeVar('_Tree')


def shuffled(batch: _Tree, key: jax.Array, *, num: int) -> _Tree:
  """The steps of a batch in random order, split into `num` equal parts.

  Args:
    batch: leaves `[T, N, ...]`.
    key: consumed.
    num: M, which divides T * N.

  Returns:
    Leaves `[M, 1, T * N / M, ...]`: each part is a trajectory of one step.
  """
  count = math.prod(jax.tree.leaves(batch)[0].shape[:2])
  order = jax.random.permutation(key, count).reshape(num, 1, count // num)
  return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:])[order], batch)


def descend(
  loss_fn: Callable[[_Tree, Any], jax.Array],
  params: _Tree,
  optimizer_state: Any,
  batch: Any,
  key: jax.Array,
  *,
  section: on_policy_config.Epochs,
  learning_rate: jax.Array,
) -> tuple[_Tree, Any, jax.Array]:
  """Minimises a loss by passes over a batch.

  An update is skipped if its gradient is not finite.

  Args:
    loss_fn: (params, minibatch) -> scalar.
    params: the parameters to update.
    optimizer_state: of `optimizer(section, learning_rate)`.
    batch: leaves `[T, N, ...]`.
    key: consumed.
    section: numbers of epochs and minibatches, and the gradient's greatest
      norm.
    learning_rate: Adam's step size.

  Returns:
    The new parameters and optimiser state, and the number of updates taken, out
    of `num_epochs * num_minibatches`.
  """
  adam = optimizer(section, learning_rate)

  def update(carry: Any, minibatch: Any) -> tuple[Any, None]:
    params, state, taken = carry
    gradient = jax.grad(loss_fn)(params, minibatch)
    finite = masking.all_finite(gradient)
    changes, after = adam.update(gradient, state, params)
    new = (optax.apply_updates(params, changes), after)
    params, state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), new, (params, state)
    )
    return (params, state, taken + finite), None

  def epoch(carry: Any, key: jax.Array) -> tuple[Any, None]:
    parts = shuffled(batch, key, num=section.num_minibatches)
    return jax.lax.scan(update, carry, parts)

  start = (params, optimizer_state, jnp.zeros((), jnp.int32))
  carry, _ = jax.lax.scan(
    epoch, start, jax.random.split(key, section.num_epochs)
  )
  return carry


def optimizer(
  section: on_policy_config.Epochs, learning_rate: jax.Array
) -> optax.GradientTransformation:
  """Adam, after clipping the gradient's global norm to `max_grad_norm`."""
  adam = optax.adam(learning_rate)
  if section.max_grad_norm is None:
    return adam
  return optax.chain(optax.clip_by_global_norm(section.max_grad_norm), adam)
