"""The target y of a model, and the next observation computed from y.

  y = delta s = s' - s   or   y = s'

The change of a periodic angle is the shorter way around
(`Environment.change`), and s' is s plus that change, so neither y jumps at the
end of a period. y is standardised by given moments, or unchanged with
`statistics.identity`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import straight_through
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import statistics as statistics_lib

KINDS = ('delta', 'next')


Change = Callable[[jax.Array, jax.Array], jax.Array]


def difference(obs: jax.Array, next_obs: jax.Array) -> jax.Array:
  """`next_obs - obs`: the change if no dimension is periodic."""
  return next_obs - obs


def of(
  obs: jax.Array,
  next_obs: jax.Array,
  *,
  kind: str,
  change: Change = difference,
) -> jax.Array:
  """The target y [..., O], not standardised.

  Args:
    obs: s, `[..., O]`.
    next_obs: s', `[..., O]`.
    kind: `delta` or `next`.
    change: the environment's `(obs, next_obs) -> change`.

  Raises:
    ValueError: if `kind` is not one of `KINDS`.
  """
  if kind not in KINDS:
    raise ValueError(f'kind={kind!r}: must be one of {KINDS}')
  y = change(obs, next_obs)
  return y if kind == 'delta' else obs + y


def next_obs(
  y: jax.Array,
  obs: jax.Array,
  statistics: statistics_lib.Statistics,
  *,
  kind: str,
) -> jax.Array:
  """The next observation [N, O] for a standardised `y` [N, O].

  s' = mu + sigma y (+ s for `delta`), clipped to the statistics' bounds. The
  clip has a straight-through gradient (`straight_through.clip`), so that
  gradients through time do not vanish. A dimension that never varied has sigma
  0 and is predicted to be its mean. The result is NaN where `y` is not finite;
  otherwise clipping would hide an infinite number.
  """
  mean, std, low, high = (
    broadcasting.leading(x, y.ndim)
    for x in (*statistics.targets, statistics.low, statistics.high)
  )
  raw = mean + std * y
  if kind == 'delta':
    raw = obs + raw
  return _bounded(raw, low, high)


def reward(y: jax.Array, statistics: statistics_lib.Statistics) -> jax.Array:
  """The predicted reward [N] for a standardised `y` [N].

  It is mu + sigma y, clipped and NaN as in `next_obs`.

  Raises:
    ValueError: if the statistics have no reward.
  """
  low, high = statistics.reward_low, statistics.reward_high
  if statistics.reward is None or low is None or high is None:
    raise ValueError('statistics.reward is None: the model predicts no rewards')
  mean, std, low, high = (
    broadcasting.leading(x[..., 0], y.ndim)
    for x in (*statistics.reward, low, high)
  )
  return _bounded(mean + std * y, low, high)


def _bounded(raw: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
  """Clips `raw` with a straight-through gradient; NaN where not finite."""
  clipped = straight_through.clip(raw, low, high)
  return jnp.where(jnp.isfinite(raw), clipped, jnp.nan)


def unscaled(
  statistics: statistics_lib.Statistics,
) -> statistics_lib.Statistics:
  """The same bounds with identity moments: no standardisation."""
  return statistics._replace(
    inputs=normalizer.identity(statistics.inputs.mean.shape[-1]),
    targets=normalizer.identity(statistics.targets.mean.shape[-1]),
  )
