"""Soft actor-critic: targets and losses (Haarnoja et al. 2018, 1812.05905).

  critics      y = r + gamma (1 - d) (min_c Q'_c(s', a') - alpha log pi(a'|s')),
               J_Q = mean 1/2 sum_c (Q_c(s, a) - y)^2
  policy       J_pi = mean alpha log pi(a|s) - min_c Q_c(s, a),  a = f(noise; s)
  temperature  J_alpha = mean -alpha (log pi(a|s) + H)

with a' ~ pi(.|s'), Q' the target critics and H the target entropy (equations 3,
5, 7 and 18). Expectations over the policy use one reparameterised sample. J_Q
is `q_learning.critic_loss`.

The networks' inputs (`inputs`) may be any tree of arrays: an observation, an
observation with the latent of a task, or a history. These functions pass them
on unchanged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.objectives import q_learning
from mbmpo_jax.policies import distributions

# (params, inputs [...]) -> pi(.|s) [..., A]
DistFn: TypeAlias = Callable[[types.Params, Any], distributions.Distribution]


class Sample(NamedTuple):
  """Actions, as inputs of the Q networks, and their log-probabilities."""

  action: jax.Array  # [..., A]
  log_prob: jax.Array  # [...]


def sample(dist: distributions.Distribution, noise: Any) -> Sample:
  """Actions computed from `noise`, differentiable in the distribution."""
  action = dist.to_env(dist.sample(noise))
  return Sample(action, dist.log_prob_of_noise(noise))


def targets(
  q_fn: q_learning.QFn,
  target_params: types.Params,
  next_inputs: Any,
  next_sample: Sample,
  reward: jax.Array,
  terminated: jax.Array,
  *,
  discount: jax.Array | float,
  temperature: jax.Array | float,
) -> jax.Array:
  """The critics' targets y [...], with the smallest of the target critics.

  Args:
    q_fn: the critics.
    target_params: parameters of the target critics Q'.
    next_inputs: s' [...]; at a time limit, the state before the reset.
    next_sample: a' ~ pi(.|s').
    reward: r [...].
    terminated: d [...], 1. where s' is terminal; 0. at a time limit.
    discount: gamma.
    temperature: alpha.
  """
  q = q_fn(target_params, next_inputs, next_sample.action)
  chex.assert_equal_shape_prefix([q, reward], reward.ndim)
  soft_value = jnp.min(q, -1) - temperature * next_sample.log_prob
  return q_learning.bootstrapped(
    reward, terminated, soft_value, discount=discount
  )


def actor_loss(
  policy_params: types.Params,
  dist_fn: DistFn,
  inputs: Any,
  noise: Any,
  q_fn: q_learning.QFn,
  critic_params: types.Params,
  *,
  temperature: jax.Array | float,
  critic_inputs: Any = None,
) -> tuple[jax.Array, Sample]:
  """The policy's loss J_pi, a scalar, and the sampled actions.

  Args:
    policy_params: parameters of the policy, to be differentiated.
    dist_fn: the policy.
    inputs: s [...], as the policy receives it.
    noise: the noise from which the actions are computed.
    q_fn: the critics.
    critic_params: parameters of the critics Q.
    temperature: alpha.
    critic_inputs: s as the critics receive it; by default equal to `inputs`.
  """
  drawn = sample(dist_fn(policy_params, inputs), noise)
  seen = inputs if critic_inputs is None else critic_inputs
  q = jnp.min(q_fn(critic_params, seen, drawn.action), -1)
  chex.assert_equal_shape([q, drawn.log_prob])
  return jnp.mean(temperature * drawn.log_prob - q), drawn


def temperature_loss(
  log_temperature: jax.Array,
  log_prob: jax.Array,
  *,
  target_entropy: jax.Array | float,
) -> jax.Array:
  """The temperature's loss J_alpha, a scalar.

  Its gradient in log alpha is alpha times the difference of the policy's
  entropy and H.

  Args:
    log_temperature: log alpha, to be differentiated.
    log_prob: log pi(a|s) [...], through which no gradient flows.
    target_entropy: H.
  """
  excess = jax.lax.stop_gradient(log_prob) + target_entropy
  return -jnp.exp(log_temperature) * jnp.mean(excess)
