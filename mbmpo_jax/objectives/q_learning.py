"""What all methods that learn Q(s, a) by bootstrapping share."""

import chex
import jax
import jax.numpy as jnp


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


def squared_error(q: jax.Array, targets: jax.Array) -> jax.Array:
  """1/2 sum_c (Q_c - y)^2, the mean over all rows; a scalar.

  Args:
    q: of each of C critics, [..., C].
    targets: y [...], through which no gradient flows.
  """
  chex.assert_equal_shape_prefix([q, targets], targets.ndim)
  error = q - jax.lax.stop_gradient(targets)[..., None]
  return 0.5 * jnp.mean(jnp.sum(jnp.square(error), -1))
