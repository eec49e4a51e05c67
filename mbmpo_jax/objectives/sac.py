"""Soft actor-critic: targets and losses (Haarnoja et al. 2018, 1812.05905).

  critics      y = r + gamma (1 - d) (min_c Q'_c(s', a') - alpha log pi(a'|s')),
               J_Q = mean 1/2 sum_c (Q_c(s, a) - y)^2
  policy       J_pi = mean alpha log pi(a|s) - min_c Q_c(s, a),  a = f(noise; s)
  temperature  J_alpha = mean -alpha (log pi(a|s) + H)

with a' ~ pi(.|s'), Q' the target critics, H the target entropy (equations 3, 5,
7 and 18). Expectations over the policy are by one sample, reparametrised. J_Q
is `q_learning.critic_loss`.

What a network sees (`inputs`) is its own affair: an observation, one with the
latent of a task, a history. These functions hand it on, any tree of arrays.
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
  """Actions, as Q networks see them, and their log-probabilities."""

  action: jax.Array  # [..., A]
  log_prob: jax.Array  # [...]


def sample(dist: distributions.Distribution, noise: Any) -> Sample:
  """Actions made of `noise`, differentiable in the distribution."""
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
  """What Q should be, y [...], with the smallest of the target critics.

  Args:
    q_fn: the critics.
    target_params: of the target critics Q'.
    next_inputs: s' [...], of a step that a time limit cut that before the
      reset.
    next_sample: a' ~ pi(.|s').
    reward: r [...].
    terminated: d [...], 1. where s' is terminal; not where time ran out.
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
  """J_pi of `policy_params`, a scalar; and the actions.

  Args:
    policy_params: to be differentiated in.
    dist_fn: the policy.
    inputs: s [...].
    noise: of which the actions are made.
    q_fn: the critics.
    critic_params: of the critics Q.
    temperature: alpha.
    critic_inputs: s as the critics see it; by default, as the policy does.
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
  """J_alpha of log alpha, a scalar.

  Its gradient is alpha times what the policy's entropy exceeds H by.

  Args:
    log_temperature: log alpha, to be differentiated in.
    log_prob: log pi(a|s) [...], through which no gradient flows.
    target_entropy: H.
  """
  excess = jax.lax.stop_gradient(log_prob) + target_entropy
  return -jnp.exp(log_temperature) * jnp.mean(excess)
