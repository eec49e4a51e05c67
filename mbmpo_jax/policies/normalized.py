"""Observations normalised by the running moments of those seen so far."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.policies import base

# Normalised observations are clipped to this many deviations.
_FURTHEST = 10.0
_LEAST_VARIANCE = 1e-8


class Moments(NamedTuple):
  """Running moments of all rows so far; without rows, mean 0 and std 1."""

  total: jax.Array  # [], number of rows
  mean: jax.Array  # [D]
  squares: jax.Array  # [D], sum of squared deviations from the mean


class Params(NamedTuple):
  """Parameters of a normalised policy."""

  policy: types.Params
  moments: Any  # `Moments`; in the axes of `spread`, one axis for all leaves


def start(size: int) -> Moments:
  """The moments before any row."""
  # Each leaf has its own buffer: XLA cannot donate one buffer twice.
  return Moments(*(jnp.zeros(shape) for shape in ((), (size,), (size,))))


def update(moments: Moments, rows: jax.Array, mask: jax.Array) -> Moments:
  """The moments after further rows (Chan et al. 1979, equation 1.5).

  Args:
    moments: of all earlier rows.
    rows: `[..., D]`.
    mask: `[...]`, 1. where a row counts.

  Example:
    >>> rows = jnp.array([[1.0], [3.0], [8.0]])
    >>> seen = update(start(1), rows[:1], jnp.ones(1))
    >>> seen = update(seen, rows[1:], jnp.ones(2))
    >>> seen.mean.tolist(), seen.squares.tolist()
    ([4.0], [26.0])
  """
  chex.assert_equal_shape_prefix([rows, mask], mask.ndim)
  flags = mask.reshape(-1, 1) > 0
  flat = jnp.where(flags, rows.reshape(-1, rows.shape[-1]), 0.0)
  added = jnp.sum(mask)
  mean = jnp.sum(flat, 0) / jnp.maximum(added, 1)
  deviation = jnp.where(flags, flat - mean[None], 0.0)
  total = moments.total + added
  share = added / jnp.maximum(total, 1)
  shift = mean - moments.mean
  return Moments(
    total=total,
    mean=moments.mean + shift * share,
    squares=moments.squares
    + jnp.sum(jnp.square(deviation), 0)
    + jnp.square(shift) * moments.total * share,
  )


def normalize(moments: Moments, obs: jax.Array) -> jax.Array:
  """(obs - mean) / std for `obs` [..., D], clipped to +-10."""
  return scale(moments, obs - moments.mean.reshape(_row(obs)))


def scale(moments: Moments, change: jax.Array) -> jax.Array:
  """change / std for a difference of observations [..., D], clipped to +-10."""
  variance = moments.squares / jnp.maximum(moments.total, 1)
  std = jnp.where(
    moments.total > 0, jnp.sqrt(jnp.maximum(variance, _LEAST_VARIANCE)), 1.0
  )
  scaled = change / std.reshape(_row(change))
  return jnp.clip(scaled, -_FURTHEST, _FURTHEST)


def _row(obs: jax.Array) -> tuple[int, ...]:
  """The shape of moments [D] that broadcasts against `obs` [..., D]."""
  return (1,) * (obs.ndim - 1) + (-1,)


def make(policy: base.Policy, observation_size: int) -> base.Policy:
  """`policy` with normalised observations; its parameters are `Params`.

  The moments have no derivatives, so that gradient steps leave them as they
  are.
  """

  def init(key: jax.Array) -> Params:
    return Params(policy.init(key), start(observation_size))

  def begin(params: Params, key: Any, context: Any, num: int) -> Any:
    return policy.start(params.policy, key, context, num)

  def act(
    params: Params, carry: Any, obs: jax.Array, noise: Any
  ) -> tuple[Any, base.Action]:
    obs = normalize(_fixed(params), obs)
    return policy.act(params.policy, carry, obs, noise)

  def distribution(params: Params, carry: Any, obs: jax.Array) -> Any:
    assert policy.distribution is not None
    obs = normalize(_fixed(params), obs)
    return policy.distribution(params.policy, carry, obs)

  def over(params: Params, trajectory: types.Trajectory) -> Any:
    assert policy.over is not None
    return policy.over(params.policy, normalized(_fixed(params), trajectory))

  def observe(params: Params, carry: Any, step: base.Experience) -> Any:
    assert policy.observe is not None
    step = step._replace(
      obs=normalize(_fixed(params), step.obs),
      next_obs=normalize(_fixed(params), step.next_obs),
    )
    return policy.observe(params.policy, carry, step)

  return policy._replace(
    init=init,
    start=begin,
    act=act,
    distribution=None if policy.distribution is None else distribution,
    over=None if policy.over is None else over,
    observe=None if policy.observe is None else observe,
    spread=spread(policy),
  )


def spread(policy: base.Policy) -> Callable[..., tuple[types.Params, Any]]:
  """The `spread` of a policy with `Params`, from that of the inner policy."""

  def spread_params(
    params: Params, shape: tuple[int, ...], per_task: bool
  ) -> tuple[Params, Any]:
    inner, axes = policy.spread(params.policy, shape, per_task)
    axis = 0 if per_task else None
    return Params(inner, params.moments), Params(axes, axis)

  return spread_params


def _fixed(params: Params) -> Any:
  return jax.lax.stop_gradient(params.moments)


def normalized(moments: Any, trajectory: types.Trajectory) -> types.Trajectory:
  """The trajectory with normalised observations; as it is for moments ()."""
  if moments == ():
    return trajectory
  return trajectory._replace(
    obs=normalize(moments, trajectory.obs),
    next_obs=normalize(moments, trajectory.next_obs),
  )
