"""The linear baseline of the return (Duan et al. 2016).

  V(s, t) = w . phi,  phi = [o, o^2, t/100, (t/100)^2, (t/100)^3, 1],
  o = clip(obs, +-10), t the steps since the episode began.

One task at a time; `jax.vmap` over tasks. Samples are the last axes, [D, T, N],
so that sums over them run along memory.
"""

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax.optim import linear
from mbmpo_jax.rollouts import episodes

_MAX_JITTER_RAISES = 5
_MAX_OBS = 10.0  # features see observations within +-10


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
) -> jax.Array:
  """Least-squares weights w = (F F' + ridge I)^-1 F R, F being phi `[D, T N]`.

  The normal equations are solved with features scaled to unit RMS and at full
  precision. Where they are still singular in rounding, as with a feature that
  does not vary, a jitter of that size is added, up to five times tenfold.

  Args:
    phi: of `features`.
    targets: R, `[T, N]`; masked entries may hold anything.
    mask: `[T, N]`.
    ridge: the penalty on ||w||^2.

  Returns:
    w, `[D]`; zero where there is no solution.
  """
  samples = phi.reshape(phi.shape[0], -1)
  targets = masking.live(targets, mask).reshape(-1)
  rms = jnp.sqrt(jnp.mean(jnp.square(samples), -1))
  scale = jnp.where(rms > 0, 1 / jnp.where(rms > 0, rms, 1.0), 1.0)
  scaled = samples * scale[:, None]
  gram = linear.dot(scaled, scaled.T)
  moment = linear.dot(scaled, targets)

  def solve(jitter: jax.Array) -> jax.Array:
    damping = ridge * jnp.square(scale) + jitter * targets.size
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
  # Without a solution the baseline is zero: higher variance, still unbiased.
  return jnp.where(jnp.all(jnp.isfinite(weights)), weights, 0.0)


def predict(weights: jax.Array, phi: jax.Array) -> jax.Array:
  """V = w . phi, `[T, N]`; zero where masked."""
  samples = phi.reshape(phi.shape[0], -1)
  return linear.dot(weights, samples).reshape(phi.shape[1:])
