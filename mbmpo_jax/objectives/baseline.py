"""The linear baseline of the return (Duan et al. 2016).

  V(s, t) = w . phi,  phi = [o, o^2, t/100, (t/100)^2, (t/100)^3, 1],
  o = clip(obs, +-10), t the steps since the episode began.

Fitted and evaluated about the means, V = V_mean + w . (phi - phi_mean): returns
far from zero, and observations that vary little about what they are, would
otherwise be lost to rounding. The ridge is on w, not on the constant.

One task at a time; `jax.vmap` over tasks. Samples are the last axes, [D, T, N],
so that sums over them run along memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax.optim import linear
from mbmpo_jax.rollouts import episodes

_MAX_JITTER_RAISES = 5
# A feature that varies less than this many roundings of its mean is constant.
_ROUNDING = 4.0
_MAX_OBS = 10.0  # features see observations within +-10


class Baseline(NamedTuple):
  """What `fit` found, and `predict` takes."""

  weights: jax.Array  # w, [D]; 0 for the constant
  center: jax.Array  # phi_mean, [D]
  mean: jax.Array  # V_mean, []


def features(
  obs: jax.Array, mask: jax.Array, terminated: jax.Array
) -> jax.Array:
  """phi, `[D, T, N]` with D = 2 * O + 4; zero where masked.

  Args:
    obs: `[T, N, O]`; masked entries may hold anything.
    mask: 1 for live steps, `[T, N]`.
    terminated: 1 where a step ended an episode, `[T, N]`.
  """
  clipped = jnp.clip(masking.live(obs, mask), -_MAX_OBS, _MAX_OBS)
  clipped = jnp.moveaxis(clipped, -1, 0)
  time = episodes.time(terminated).astype(obs.dtype)[None] / 100
  powers = [time, time**2, time**3, jnp.ones_like(time)]
  phi = jnp.concatenate([clipped, jnp.square(clipped), *powers])
  return jnp.where(mask[None] > 0, phi, 0.0)


def fit(
  phi: jax.Array,
  targets: jax.Array,
  mask: jax.Array,
  *,
  ridge: jax.Array | float,
) -> Baseline:
  """Least squares, w = (F F' + ridge I)^-1 F R, F and R about their means.

  F is phi, `[D, T N]`, without the constant. The normal equations are solved
  with features scaled to unit RMS and at full precision. Where they are still
  singular in rounding, as with a feature given twice, a jitter of that size is
  added, up to five times tenfold.

  Args:
    phi: of `features`.
    targets: R, `[T, N]`; masked entries may hold anything.
    mask: `[T, N]`.
    ridge: the penalty on ||w||^2.

  Returns:
    The baseline; the mean where there is no solution.
  """
  live = mask.reshape(-1) > 0
  count = jnp.maximum(jnp.sum(live), 1)
  samples = phi.reshape(phi.shape[0], -1)
  center = jnp.sum(samples, -1) / count  # phi is 0 where masked.
  samples = jnp.where(live[None], samples - center[:, None], 0.0)
  targets = masking.live(targets, mask).reshape(-1)
  mean = jnp.sum(targets) / count
  # Once more about itself: the sum was rounded.
  mean += jnp.sum(jnp.where(live, targets - mean, 0.0)) / count
  targets = jnp.where(live, targets - mean, 0.0)
  rms = jnp.sqrt(jnp.mean(jnp.square(samples), -1))
  # What does not vary but for rounding says nothing.
  rounding = _ROUNDING * jnp.finfo(phi.dtype).eps
  varies = rms > rounding * jnp.abs(center)
  scale = jnp.where(varies, 1 / jnp.where(varies, rms, 1.0), 0.0)
  scaled = samples * scale[:, None]
  gram = linear.dot(scaled, scaled.T)
  moment = linear.dot(scaled, targets)

  def solve(jitter: jax.Array) -> jax.Array:
    # Of what does not vary, anything: its weight is 0.
    damping = jnp.where(varies, ridge * jnp.square(scale), 1.0)
    damping = damping + jitter * targets.size
    return scale * linear.solve(gram + jnp.diag(damping), moment)

  def raise_jitter(
    state: tuple[jax.Array, jax.Array, jax.Array],
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    raises, jitter, _ = state
    return raises + 1, 10 * jitter, solve(10 * jitter)

  def singular(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    raises, _, weights = state
    return (raises < _MAX_JITTER_RAISES) & ~jnp.all(jnp.isfinite(weights))

  # Relative to the diagonal of the Gram matrix, about its rounding error.
  jitter = jnp.asarray(jnp.finfo(gram.dtype).eps, gram.dtype)
  start = (jnp.int32(0), jitter, solve(jnp.zeros_like(jitter)))
  weights = jax.lax.while_loop(singular, raise_jitter, start)[2]
  # Without a solution the baseline is a constant: higher variance, unbiased.
  weights = jnp.where(jnp.all(jnp.isfinite(weights)), weights, 0.0)
  return Baseline(weights, center, mean)


def predict(baseline: Baseline, phi: jax.Array) -> jax.Array:
  """V, `[T, N]`, of phi `[D, T, N]`; zero where masked."""
  samples = phi.reshape(phi.shape[0], -1)
  apart = linear.dot(baseline.weights, samples - baseline.center[:, None])
  values = (baseline.mean + apart).reshape(phi.shape[1:])
  # The constant is 1 at live steps.
  return jnp.where(phi[-1] > 0, values, 0.0)
