"""Shared parts of all methods that learn Q(s, a) by bootstrapping."""

from collections.abc import Callable
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types

# (params, inputs [...], action [..., A]) -> Q of C critics [..., C]. The inputs
# of a network may be any tree of arrays.
QFn: TypeAlias = Callable[[types.Params, Any, jax.Array], jax.Array]


def bootstrapped(
  reward: jax.Array,
  terminated: jax.Array,
  next_value: jax.Array,
  *,
  discount: jax.Array | float,
) -> jax.Array:
  """Targets y = r + gamma (1 - d) V(s'), [...].

  Only a termination ends the sum of rewards. A step that reaches a time limit
  bootstraps like any other; s' is then the state before the reset.

  Args:
    reward: r [...].
    terminated: d [...], 1. where s' is terminal.
    next_value: V(s') [...]; where terminated it may be anything, NaN included.
    discount: gamma.

  Example:
    >>> one = jnp.ones(2)
    >>> bootstrapped(
    ...   one, jnp.array([0.0, 1.0]), 10 * one, discount=0.5
    ... ).tolist()
    [6.0, 1.0]
  """
  chex.assert_equal_shape([reward, terminated, next_value])
  return reward + discount * jnp.where(terminated > 0, 0.0, next_value)


def critic_loss(
  critic_params: types.Params,
  q_fn: QFn,
  inputs: Any,
  action: jax.Array,
  y: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """The critics' loss and all Q [..., C].

    J_Q = mean over rows of 1/2 sum_c (Q_c(s, a) - y)^2

  Args:
    critic_params: parameters of the critics, to be differentiated.
    q_fn: the critics.
    inputs: s [...].
    action: a [..., A], as the environment received it.
    y: targets [...], through which no gradient flows.
  """
  q = q_fn(critic_params, inputs, action)
  chex.assert_equal_shape_prefix([q, y], y.ndim)
  error = q - jax.lax.stop_gradient(y)[..., None]
  return 0.5 * jnp.mean(jnp.sum(jnp.square(error), -1)), q
