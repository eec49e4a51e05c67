"""Proximal policy optimisation's losses (Schulman et al. 2017, 1707.06347).

With r = pi(a|s) / pi_old(a|s) and advantages A,

  L_clip  = mean min(r A, clip(r, 1 - eps, 1 + eps) A)            (equation 7)
  L_value = mean 1/2 (V(s) - R)^2

The means are over live steps; masked steps may hold anything. The losses take a
distribution, whatever its inputs (observations, histories or latents) and
whether the steps come from the environment or from a model.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.policies import distributions


class Clipped(NamedTuple):
  """L_clip and statistics of the step; scalars."""

  surrogate: jax.Array  # L_clip
  clip_fraction: jax.Array  # share of steps with |ratio - 1| > eps
  # mean r - 1 - log r, an estimate of KL(pi_old || pi) that is >= 0
  kl: jax.Array


def clipped_surrogate(
  dist: distributions.Distribution,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  clip_range: jax.Array | float,
) -> Clipped:
  """L_clip of the policy `dist`, on a trajectory that pi_old sampled.

  Args:
    dist: pi at the steps of the trajectory, `[T, N]`.
    trajectory: `[T, N, ...]`, with the log-probabilities of pi_old.
    advantages: A, `[T, N]`.
    clip_range: eps.
  """
  mask = trajectory.mask
  chex.assert_equal_shape([mask, trajectory.log_prob, advantages])
  log_prob = dist.log_prob(masking.live(trajectory.action, mask))
  log_ratio = log_prob - masking.live(trajectory.log_prob, mask)
  ratio = jnp.exp(log_ratio)
  advantages = masking.live(advantages, mask)
  clipped = jnp.clip(ratio, 1 - clip_range, 1 + clip_range)
  beyond = (jnp.abs(ratio - 1) > clip_range).astype(ratio.dtype)
  return Clipped(
    surrogate=masking.mean(
      jnp.minimum(ratio * advantages, clipped * advantages), mask
    ),
    clip_fraction=masking.mean(beyond, mask),
    kl=masking.mean(ratio - 1 - log_ratio, mask),
  )


def value_loss(
  values: jax.Array, targets: jax.Array, mask: jax.Array
) -> jax.Array:
  """L_value, a scalar.

  Args:
    values: V, `[T, N]`.
    targets: R, `[T, N]`, through which no gradient flows.
    mask: `[T, N]`.
  """
  chex.assert_equal_shape([values, targets, mask])
  error = values - jax.lax.stop_gradient(masking.live(targets, mask))
  return 0.5 * masking.mean(jnp.square(error), mask)
