"""Sets of transitions (x, y), padded and masked: contexts and targets.

x = [model_input(s), a]; y is the change of s or s'. A padded row may hold
anything, NaN included; `live` replaces it before any arithmetic.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import targets


class Points(NamedTuple):
  """An unordered set of transitions of one task."""

  x: jax.Array  # [C, I]
  y: jax.Array  # [C, O]
  mask: jax.Array  # [C], 1. where there is a point


def of_transitions(
  data: types.Transition,
  valid: jax.Array,
  *,
  model_input: Callable[[jax.Array], jax.Array],
  target: str,
  change: targets.Change = targets.difference,
) -> Points:
  """Transitions `[C, ...]` as points, not standardised.

  A transition with a number that is not finite, or larger than 1e10 in
  magnitude, is left out.

  Args:
    data: `[C, ...]`.
    valid: `[C]`, 1. for transitions to use.
    model_input: the environment's `model_input`.
    target: `delta` or `next`, see `models/targets.py`.
    change: the environment's `(obs, next_obs) -> change`.
  """
  chex.assert_rank([data.obs, data.action, data.next_obs, valid], [2, 2, 2, 1])
  chex.assert_equal_shape_prefix([data.obs, data.action, valid], 1)
  x = jnp.concatenate([model_input(data.obs), data.action], -1)
  y = targets.of(data.obs, data.next_obs, kind=target, change=change)
  mask = jnp.where(masking.sound_rows((x, y)), valid, 0.0)
  return Points(x, y, mask.astype(x.dtype))


def live(points: Points) -> Points:
  """The same set with zeros in padded rows."""
  return Points(
    masking.live(points.x, points.mask),
    masking.live(points.y, points.mask),
    points.mask,
  )


def standardize(
  points: Points, statistics: statistics_lib.Statistics
) -> Points:
  """x and y standardised by the moments of the data; the mask is unchanged."""
  return points._replace(
    x=normalizer.standardize(statistics.inputs, points.x),
    y=normalizer.standardize(statistics.targets, points.y),
  )


def empty(room: int, input_size: int, output_size: int) -> Points:
  """An empty set with `room` rows: the context of an unknown task."""
  return Points(
    jnp.zeros((room, input_size)),
    jnp.zeros((room, output_size)),
    jnp.zeros(room),
  )


def pad(points: Points, room: int) -> Points:
  """The same set, padded to `room` rows.

  Raises:
    ValueError: if it has more rows.
  """
  rows = points.mask.shape[0]
  if rows > room:
    raise ValueError(f'context of {rows} rows: must have at most {room}')

  def widen(x: jax.Array) -> jax.Array:
    return jnp.pad(x, [(0, room - rows)] + [(0, 0)] * (x.ndim - 1))

  return Points(*map(widen, points))


def union(first: Points, second: Points) -> Points:
  """The union of two sets of points of one task."""
  return Points(
    *(jnp.concatenate([a, b]) for a, b in zip(first, second, strict=True))
  )
