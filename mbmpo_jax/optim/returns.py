"""Returns, the linear-feature baseline, and advantages.

One task at a time, time-major `[T, N]`; `jax.vmap` over tasks. `mask` is 1
where a rollout was alive before the step; masked entries weigh nothing and may
hold anything, NaN included. `terminated` is 1 where a step ended an episode:
what follows it in the rollout, if anything, is another one.
"""

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.optim import linear
from mbmpo_jax.rollouts import episodes

_MAX_JITTER_RAISES = 5
_MAX_OBS = 10.0  # the baseline's features see observations within +-10
_EPSILON = 1e-8


def discounted_returns(
  rewards: jax.Array,
  mask: jax.Array,
  terminated: jax.Array,
  *,
  discount: jax.Array | float,
) -> jax.Array:
  """R_t = r_t + gamma R_{t+1}, with R = 0 after an episode.

  Args:
    rewards: r, `[T, N]`.
    mask: `[T, N]`.
    terminated: `[T, N]`.
    discount: gamma.

  Returns:
    R, `[T, N]`, zero where masked.

  Example:
    One rollout in which the second of four steps ends an episode:

    >>> ones, end = jnp.ones((4, 1)), jnp.array([[0.0], [1.0], [0.0], [0.0]])
    >>> discounted_returns(ones, ones, end, discount=0.5)[:, 0].tolist()
    [1.5, 1.0, 1.5, 1.0]
  """
  return _discounted_sum(masking.live(rewards, mask), terminated, discount)


def fit_linear_baseline(
  obs: jax.Array,
  targets: jax.Array,
  mask: jax.Array,
  terminated: jax.Array,
  *,
  ridge: jax.Array | float,
) -> jax.Array:
  """Least-squares weights w = (F'F + ridge I)^-1 F' R of the linear baseline.

  The features F are those of `predict_linear_baseline` (Duan et al. 2016). The
  normal equations are solved with columns scaled to unit RMS and at full
  precision. Where they are still singular in rounding, as with a feature that
  does not vary, a jitter of that size is added, up to five times tenfold.

  Args:
    obs: `[T, N, O]`.
    targets: R, `[T, N]`.
    mask: `[T, N]`.
    terminated: `[T, N]`.
    ridge: the penalty on ||w||^2.

  Returns:
    w, `[2 * O + 4]`.
  """
  features = _features(masking.live(obs, mask), terminated)
  features = masking.live(features, mask)
  features = features.reshape(-1, features.shape[-1])
  targets = masking.live(targets, mask).reshape(-1)
  rms = jnp.sqrt(jnp.mean(jnp.square(features), 0))
  scale = jnp.where(rms > 0, 1 / jnp.where(rms > 0, rms, 1.0), 1.0)
  scaled = features * scale[None]
  gram = linear.dot(scaled.T, scaled)
  moment = linear.dot(scaled.T, targets)

  def solve(jitter: jax.Array) -> jax.Array:
    damping = ridge * jnp.square(scale) + jitter * features.shape[0]
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


def predict_linear_baseline(
  weights: jax.Array, obs: jax.Array, terminated: jax.Array
) -> jax.Array:
  """V = w . [o, o^2, t/100, (t/100)^2, (t/100)^3, 1], o = clip(obs, +-10).

  Args:
    weights: w, `[2 * O + 4]`.
    obs: `[T, N, O]`.
    terminated: `[T, N]`; t counts the steps since the episode began.

  Returns:
    V, `[T, N]`.
  """
  return linear.dot(_features(obs, terminated), weights)


def gae(
  rewards: jax.Array,
  values: jax.Array,
  mask: jax.Array,
  terminated: jax.Array,
  *,
  discount: jax.Array | float,
  gae_lambda: jax.Array | float,
) -> jax.Array:
  """Generalised advantages (Schulman et al. 2016, eq. 16).

  A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V_{t+1} - V_t,
  where V is zero after the last step and after a terminal one.

  Args:
    rewards: r, `[T, N]`.
    values: V, `[T, N]`.
    mask: `[T, N]`.
    terminated: `[T, N]`.
    discount: gamma.
    gae_lambda: lambda.

  Returns:
    A, `[T, N]`, zero where masked.
  """
  values = masking.live(values, mask)
  next_values = jnp.concatenate([values[1:], jnp.zeros_like(values[:1])])
  next_values = jnp.where(terminated > 0, 0.0, next_values)
  deltas = masking.live(rewards, mask) + discount * next_values - values
  return _discounted_sum(deltas, terminated, discount * gae_lambda)


def standardize(advantages: jax.Array, mask: jax.Array) -> jax.Array:
  """(A - mean) / (std + 1e-8) over live steps; zero where masked."""
  centred = masking.live(advantages - masking.mean(advantages, mask), mask)
  std = jnp.sqrt(masking.mean(jnp.square(centred), mask))
  return centred / (std + _EPSILON)


def advantages(
  trajectory: types.Trajectory,
  *,
  discount: jax.Array | float,
  gae_lambda: jax.Array | float,
  ridge: jax.Array | float,
) -> jax.Array:
  """Standardised advantages `[T, N]` over a baseline fitted on the same data.

  Args:
    trajectory: one task's, `[T, N, ...]`.
    discount: gamma.
    gae_lambda: lambda.
    ridge: of the baseline.
  """
  rewards, obs = trajectory.reward, trajectory.obs
  mask, terminated = trajectory.mask, trajectory.terminated
  targets = discounted_returns(rewards, mask, terminated, discount=discount)
  weights = fit_linear_baseline(obs, targets, mask, terminated, ridge=ridge)
  values = predict_linear_baseline(weights, obs, terminated)
  unscaled = gae(
    rewards,
    values,
    mask,
    terminated,
    discount=discount,
    gae_lambda=gae_lambda,
  )
  return standardize(unscaled, mask)


def _features(obs: jax.Array, terminated: jax.Array) -> jax.Array:
  obs = jnp.clip(obs, -_MAX_OBS, _MAX_OBS)
  time = episodes.time(terminated).astype(obs.dtype)[..., None] / 100
  powers = jnp.concatenate([time, time**2, time**3, jnp.ones_like(time)], -1)
  return jnp.concatenate([obs, jnp.square(obs), powers], -1)


def _discounted_sum(
  x: jax.Array, terminated: jax.Array, discount: jax.Array | float
) -> jax.Array:
  """y_t = x_t + discount * y_{t+1}, y_{t+1} = 0 where t ends an episode."""

  def step(
    later: jax.Array, now: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    x_t, ends = now
    total = x_t + discount * jnp.where(ends > 0, 0.0, later)
    return total, total

  start = jnp.zeros_like(x[0])
  return jax.lax.scan(step, start, (x, terminated), reverse=True)[1]
