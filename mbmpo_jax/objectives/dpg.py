"""Deterministic policy gradients: DDPG and TD3.

  critics  y = r + gamma (1 - d) min_c Q'_c(s', a'),
           J_Q = mean 1/2 sum_c (Q_c(s, a) - y)^2  (`q_learning.critic_loss`)
  policy   J_mu = mean -Q_1(s, mu(s))

DDPG (Lillicrap et al. 2016, 1509.02971, algorithm 1) has one critic; its a' is
mu'(s'), from the target policy. TD3 (Fujimoto et al. 2018, 1802.09477,
algorithm 1) has two critics and uses the smaller value. It also adds clipped
noise to a' and updates the policy less often than the critics.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.objectives import q_learning

# (params, inputs [...]) -> action [..., A], within [-1, 1]
PolicyFn: TypeAlias = Callable[[types.Params, Any], jax.Array]


def smoothed(
  action: jax.Array,
  noise: jax.Array,
  *,
  std: jax.Array | float,
  clip: jax.Array | float,
) -> jax.Array:
  """TD3's a' = clip(mu'(s') + clip(std * noise, -c, c), -1, 1), [..., A].

  This is target policy smoothing.

  Args:
    action: mu'(s') [..., A].
    noise: standard normal, [..., A].
    std: standard deviation of the smoothing noise.
    clip: c.

  Example:
    >>> smoothed(
    ...   jnp.zeros(2), jnp.array([9.0, 1.0]), std=0.2, clip=0.5
    ... ).tolist()
    [0.5, 0.20000000298023224]
  """
  chex.assert_equal_shape([action, noise])
  return jnp.clip(action + jnp.clip(std * noise, -clip, clip), -1.0, 1.0)


def targets(
  q_fn: q_learning.QFn,
  target_params: types.Params,
  next_inputs: Any,
  next_action: jax.Array,
  reward: jax.Array,
  terminated: jax.Array,
  *,
  discount: jax.Array | float,
) -> jax.Array:
  """The critics' targets y [...], with the smallest of the target critics.

  Args:
    q_fn: the critics, one or several.
    target_params: parameters of the target critics Q'.
    next_inputs: s' [...]; at a time limit, the state before the reset.
    next_action: a' [..., A], from the target policy.
    reward: r [...].
    terminated: d [...], 1. where s' is terminal; 0. at a time limit.
    discount: gamma.
  """
  q = q_fn(target_params, next_inputs, next_action)
  chex.assert_equal_shape_prefix([q, reward], reward.ndim)
  return q_learning.bootstrapped(
    reward, terminated, jnp.min(q, -1), discount=discount
  )


def actor_loss(
  policy_params: types.Params,
  policy_fn: PolicyFn,
  inputs: Any,
  q_fn: q_learning.QFn,
  critic_params: types.Params,
) -> jax.Array:
  """The policy's loss J_mu, a scalar.

  Args:
    policy_params: parameters of mu, to be differentiated.
    policy_fn: mu.
    inputs: s [...].
    q_fn: the critics; only the first one is used.
    critic_params: parameters of the critics Q.
  """
  q = q_fn(critic_params, inputs, policy_fn(policy_params, inputs))
  return -jnp.mean(q[..., 0])
