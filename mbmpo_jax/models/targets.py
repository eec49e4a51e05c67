"""What a stochastic model predicts, y, and the next observation it stands for.

  y = delta s = s' - s   or   y = s',

where the change of a periodic angle goes the shorter way (`Environment.change`)
and s' is s and that change: neither jumps where a period ends. Standardised by
given moments, or as it is under `statistics.identity`.
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
  """`next_obs - obs`: the change where no number is periodic."""
  return next_obs - obs


def of(
  obs: jax.Array,
  next_obs: jax.Array,
  *,
  kind: str,
  change: Change = difference,
) -> jax.Array:
  """y [..., O], not standardised, of observations [..., O].

  Args:
    obs: s.
    next_obs: s'.
    kind: `delta` or `next`.
    change: the environment's.

  Raises:
    ValueError: if `kind` is none of `KINDS`.
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
  """The next observation [N, O] that a standardised `y` [N, O] stands for.

  s' = mu + sigma y (+ s), within the statistics' bounds. The clip is straight
  through (`straight_through.clip`), so that gradients through time survive it.
  A dimension that never varied has sigma 0, and is predicted to be its mean.
  NaN where `y` is not finite: clipped, an infinite number would pass for sound.
  """
  mean, std, low, high = (
    broadcasting.leading(x, y.ndim)
    for x in (*statistics.targets, statistics.low, statistics.high)
  )
  raw = mean + std * y
  if kind == 'delta':
    raw = obs + raw
  clipped = straight_through.clip(raw, low, high)
  return jnp.where(jnp.isfinite(raw), clipped, jnp.nan)


def unscaled(
  statistics: statistics_lib.Statistics,
) -> statistics_lib.Statistics:
  """The same bounds, under moments that change nothing: no standardisation."""
  return statistics._replace(
    inputs=normalizer.identity(statistics.inputs.mean.shape[-1]),
    targets=normalizer.identity(statistics.targets.mean.shape[-1]),
  )
