"""The linear baseline of the return (Duan et al. 2016).

  V(s, t) = w . phi,  phi = [o, o^2, t/100, (t/100)^2, (t/100)^3, 1],
  o = clip(obs, +-10), t the steps since the episode began.

The fit and the prediction use centred data, V = V_mean + w . (phi - phi_mean).
Without centring, rounding errors would dominate when returns are far from zero
or when observations vary little around a large mean. The ridge penalises w but
not the constant V_mean.

All functions take one task; use `jax.vmap` over tasks. The samples are the last
axes, [D, T, N], so that sums over samples read memory in order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax.optim import linear
from mbmpo_jax.rollouts import episodes

_MAX_JITTER_RAISES = 5
# A feature is treated as constant if its RMS deviation is below this many
# rounding errors of its mean.
_ROUNDING = 4.0
_MAX_OBS = 10.0  # observations are clipped to +-10 in the features


class Baseline(NamedTuple):
  """The fitted baseline: the result of `fit` and an input of `predict`."""

  weights: jax.Array  # w, [D]; 0 for features that do not vary
  center: jax.Array  # phi_mean, [D]
  mean: jax.Array  # V_mean, []


def features(
  obs: jax.Array, mask: jax.Array, terminated: jax.Array
) -> jax.Array:
  """Features phi, `[D, T, N]` with D = 2 * O + 4; zero where masked.

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
  """Least squares, w = (F F' + ridge I)^-1 F R, with F and R centred.

  F is phi as a matrix `[D, T N]`, without the constant feature. The normal
  equations are solved at full precision, with features scaled to unit RMS. If
  they are numerically singular, as with two equal features, a jitter of about
  the rounding error is added to the diagonal. It is multiplied by ten until the
  solution is finite, at most five times.

  Args:
    phi: from `features`, `[D, T, N]`.
    targets: R, `[T, N]`; masked entries may hold anything.
    mask: 1 for live steps, `[T, N]`.
    ridge: the penalty on ||w||^2.

  Returns:
    The baseline. If no finite solution is found, its weights are 0 and it
    predicts the mean target.
  """
  live = mask.reshape(-1) > 0
  count = jnp.maximum(jnp.sum(live), 1)
  samples = phi.reshape(phi.shape[0], -1)
  center = jnp.sum(samples, -1) / count  # phi is 0 where masked.
  samples = jnp.where(live[None], samples - center[:, None], 0.0)
  targets = masking.live(targets, mask).reshape(-1)
  mean = jnp.sum(targets) / count
  # Subtracting the mean a second time removes the rounding error of the sum.
  mean += jnp.sum(jnp.where(live, targets - mean, 0.0)) / count
  targets = jnp.where(live, targets - mean, 0.0)
  rms = jnp.sqrt(jnp.mean(jnp.square(samples), -1))
  # A feature that varies only by rounding carries no information.
  rounding = _ROUNDING * jnp.finfo(phi.dtype).eps
  varies = rms > rounding * jnp.abs(center)
  scale = jnp.where(varies, 1 / jnp.where(varies, rms, 1.0), 0.0)
  scaled = samples * scale[:, None]
  gram = linear.dot(scaled, scaled.T)
  moment = linear.dot(scaled, targets)

  def solve(jitter: jax.Array) -> jax.Array:
    # Features that do not vary get weight 0; any positive damping will do.
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

  # Relative to the diagonal of the Gram matrix: about its rounding error.
  jitter = jnp.asarray(jnp.finfo(gram.dtype).eps, gram.dtype)
  start = (jnp.int32(0), jitter, solve(jnp.zeros_like(jitter)))
  weights = jax.lax.while_loop(singular, raise_jitter, start)[2]
  # Without a solution the baseline is a constant: higher variance, no bias.
  weights = jnp.where(jnp.all(jnp.isfinite(weights)), weights, 0.0)
  return Baseline(weights, center, mean)


def predict(baseline: Baseline, phi: jax.Array) -> jax.Array:
  """The baseline V, `[T, N]`, at phi `[D, T, N]`; zero where masked."""
  samples = phi.reshape(phi.shape[0], -1)
  apart = linear.dot(baseline.weights, samples - baseline.center[:, None])
  values = (baseline.mean + apart).reshape(phi.shape[1:])
  # phi[-1] is the constant feature, which is 1 at live steps only.
  return jnp.where(phi[-1] > 0, values, 0.0)
