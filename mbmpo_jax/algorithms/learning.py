"""All policy steps of an iteration: a fixed number, or until validation stops.

With validation the steps are grouped in rounds, each of which ends with a
validation. One XLA loop runs rounds until `stopping` ends it.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.algorithms import stopping
from mbmpo_jax.algorithms import stopping_config


class Progress(NamedTuple):
  """The progress of the policy within an iteration."""

  params: types.Params
  step: jax.Array  # int32, number of steps taken or tried
  best: stopping.Best
  passed: jax.Array  # int32, number of validations passed
  failed: jax.Array  # int32, number of validations failed
  values: types.Metrics  # of every step, [S, ...]; NaN if it was not taken


def learn(
  theta: types.Params,
  keys: jax.Array,
  step: Callable[..., tuple[types.Params, types.Metrics]],
  validate: Callable[[types.Params], jax.Array],
  *,
  section: stopping_config.Stopping,
  worsened_fraction: jax.Array | float,
) -> Progress:
  """Takes the policy steps of an iteration.

  Args:
    theta: the policy.
    keys: of the S steps that are taken at most, `[S, ...]`; consumed.
    step: a function `(theta, key) -> (theta, metrics)`, with metrics that are
      floats.
    validate: a function from a policy to its returns in the models, `[K]`;
      called only with `section.stopping` of `validation`. It should always
      evaluate from the same states with the same random numbers, so that
      returns differ only by the policy.
    section: when to stop.
    worsened_fraction: see `stopping.validate`.

  Returns:
    The progress. The resulting policy is that of `Progress.best`; without
    validation, this is the last policy.
  """
  num_steps = keys.shape[0]
  no_step = jnp.zeros((), jnp.int32)
  if section.stopping == 'fixed':
    params, values = jax.lax.scan(step, theta, keys)
    taken = jnp.full((), num_steps, jnp.int32)
    best = stopping.Best(params, jnp.zeros(0), taken)
    return Progress(params, taken, best, no_step, no_step, values)

  per_round = section.validate_every
  chex.assert_is_divisible(num_steps, per_round)

  def take_round(progress: Progress) -> Progress:
    params, values = jax.lax.scan(
      step,
      progress.params,
      jax.lax.dynamic_slice_in_dim(keys, progress.step, per_round),
    )
    taken = progress.step + per_round
    best, passed = stopping.validate(
      progress.best,
      params,
      validate(params),
      taken,
      worsened_fraction=worsened_fraction,
    )
    return Progress(
      params=params,
      step=taken,
      best=best,
      passed=progress.passed + passed,
      failed=progress.failed + ~passed,
      values=jax.tree.map(
        lambda all_steps, new: jax.lax.dynamic_update_slice_in_dim(
          all_steps, new, progress.step, 0
        ),
        progress.values,
        values,
      ),
    )

  def goes_on(progress: Progress) -> jax.Array:
    return stopping.goes_on(
      progress.best,
      progress.step,
      num_steps=num_steps,
      patience=section.patience,
    )

  metrics = jax.eval_shape(step, theta, keys[0])[1]
  before = Progress(
    params=theta,
    step=no_step,
    best=stopping.start(theta, validate(theta)),
    passed=no_step,
    failed=no_step,
    values=jax.tree.map(
      lambda x: jnp.full((num_steps, *x.shape), jnp.nan, x.dtype), metrics
    ),
  )
  return jax.lax.while_loop(goes_on, take_round, before)


def summary(values: types.Metrics) -> types.Metrics:
  """Means over the steps that were taken, and sums of `nonfinite/...`.

  Values that are NaN are left out.

  Example:
    >>> values = {'loss': jnp.array([1.0, 3.0, jnp.nan])}
    >>> float(summary(values)['loss'])
    2.0
  """
  return {
    name: (jnp.nansum if name.startswith('nonfinite/') else jnp.nanmean)(value)
    for name, value in values.items()
  }


def checks(
  progress: Progress, *, section: stopping_config.Stopping
) -> jax.Array:
  """The number of validations, with that of the policy before the first step.

  A float scalar; 0 without validation.
  """
  if section.stopping == 'fixed':
    return jnp.zeros(())
  return (progress.passed + progress.failed + 1).astype(float)
