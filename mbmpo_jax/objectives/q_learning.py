"""What all methods that learn Q(s, a) by bootstrapping share."""

from collections.abc import Callable
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types

# (params, inputs [...], action [..., A]) -> Q of C critics [..., C]. What a
# network sees, `inputs`, is any tree of arrays.
QFn: TypeAlias = Callable[[types.Params, Any, jax.Array], jax.Array]


def bootstrapped(
  reward: jax.Array,
  terminated: jax.Array,
  next_value: jax.Array,
  *,
  discount: jax.Array | float,
) -> jax.Array:
  """Targets y = r + gamma (1 - d) V(s'), [...].

  Only a termination ends the sum of rewards. After a time limit it goes on, so
  such a step bootstraps as any other; s' is then the state before the reset.

  Args:
    reward: r [...].
    terminated: d [...], 1. where s' is terminal.
    next_value: V(s') [...]; any number where terminated, NaN too.
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
  """1/2 sum_c (Q_c(s, a) - y)^2, the mean over rows; and all Q [..., C].

  Args:
    critic_params: to be differentiated in.
    q_fn: the critics.
    inputs: s [...].
    action: a [..., A], as it reached the environment.
    y: targets [...], through which no gradient flows.
  """
  q = q_fn(critic_params, inputs, action)
  chex.assert_equal_shape_prefix([q, y], y.ndim)
  error = q - jax.lax.stop_gradient(y)[..., None]
  return 0.5 * jnp.mean(jnp.sum(jnp.square(error), -1)), q
