"""A sum over steps of f(log pi(a | s)): its derivatives by hand.

Such sums are the objectives of policy gradients. In the parameters mu and
log sigma of the distribution at every step, with n = (a - mu) / sigma,

  G_mu = f' n / sigma,    G_log_sigma = sum of f' (n^2 - 1)

and, R being the derivative along a direction (R mu, R log sigma) (Pearlmutter
1994), with q = R mu / sigma + n R log sigma, which is -R n,

  R f' = f'' sum_a (n q - R log sigma)
  R G_mu = (R f' n - f' (q + n R log sigma)) / sigma
  R G_log_sigma = sum of R f' (n^2 - 1) - 2 f' n q.

Steps are the last axis of all arrays, [A, B]; log sigma, the same at all of
them, is [A, 1].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax.policies import gaussian


class Gain(NamedTuple):
  """What the derivatives of the sum at one distribution are made of."""

  noise: jax.Array  # n, [A, B]
  slope: jax.Array  # f' [B]
  curvature: jax.Array | None  # f'' [B], None where it is 0


def at(
  gain_fn: Callable[[jax.Array], jax.Array],
  dist: gaussian.Gaussian,
  action: jax.Array,
  *,
  linear: bool = False,
) -> Gain:
  """Prepares the derivatives of `gain_fn` of the actions' log-probabilities.

  Args:
    gain_fn: log pi [B] -> the sum over steps of f(log pi), a scalar; f may be
      another one at each step.
    dist: `[A, B]`, log_std `[A, 1]`.
    action: `[A, B]`.
    linear: f is, at every step, which saves what its curvature would cost.
  """
  log_prob = gaussian.log_prob(dist, action, axis=0)
  slope_fn = jax.grad(gain_fn)
  noise = gaussian.noise_of(dist, action)
  if linear:
    return Gain(noise, slope_fn(log_prob), None)
  # All of it is on the diagonal: no step's f knows of another step.
  ones = jnp.ones_like(log_prob)
  return Gain(noise, *jax.jvp(slope_fn, (log_prob,), (ones,)))


def gradient(gain: Gain, dist: gaussian.Gaussian) -> gaussian.Gaussian:
  """G_mu [A, B] and G_log_sigma [A, 1]."""
  slope = gain.slope[None]
  return gaussian.Gaussian(
    mean=slope * gain.noise * jnp.exp(-dist.log_std),
    log_std=_over_steps(slope * (jnp.square(gain.noise) - 1)),
  )


def gradient_change(
  gain: Gain, dist: gaussian.Gaussian, change: gaussian.Gaussian
) -> gaussian.Gaussian:
  """R G_mu [A, B] and R G_log_sigma [A, 1].

  Args:
    gain: of `at`.
    dist: as there.
    change: R mu and R log sigma.
  """
  noise, slope = gain.noise, gain.slope[None]
  scale = jnp.exp(-dist.log_std)
  shift = scale * change.mean + noise * change.log_std  # q
  mean = -slope * (shift + noise * change.log_std)
  log_std = -2 * slope * noise * shift
  if gain.curvature is not None:
    log_prob_change = jnp.sum(noise * shift - change.log_std, 0)
    slope_change = (gain.curvature * log_prob_change)[None]
    mean += slope_change * noise
    log_std += slope_change * (jnp.square(noise) - 1)
  return gaussian.Gaussian(mean=scale * mean, log_std=_over_steps(log_std))


def _over_steps(x: jax.Array) -> jax.Array:
  return jnp.sum(x, -1, keepdims=True)
