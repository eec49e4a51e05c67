"""All policy steps of an iteration: a fixed number, or until validation stops.

With validation the steps are grouped in rounds, each of which ends with a
validation. One XLA loop runs rounds until `stopping` ends it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import tally as tally_lib
from mbmpo_jax.algorithms.me_trpo import config as config_lib
from mbmpo_jax.algorithms.me_trpo import policy_step
from mbmpo_jax.algorithms.me_trpo import stopping


class Progress(NamedTuple):
  """The progress of the policy within an iteration."""

  params: types.Params
  step: jax.Array  # int32, number of steps taken or tried
  best: stopping.Best
  passed: jax.Array  # int32, number of validations passed
  failed: jax.Array  # int32, number of validations failed
  tally: tally_lib.Tally


def make(
  section: config_lib.Improve, policy_steps: policy_step.PolicyStep
) -> Callable[..., Progress]:
  """Builds the policy's learning of an iteration.

  Args:
    section: number of steps, and validation.
    policy_steps: a step, and a validation.

  Returns:
    A function `(theta, model, hyper, key) -> Progress`; it consumes its key.
    The resulting policy is `Progress.best`; without validation this is the last
    policy.
  """
  validating = section.stopping == 'validation'
  per_round = section.validate_every if validating else section.num_steps

  def learn(
    theta: types.Params, model: Any, hyper: base.Hyper, key: jax.Array
  ) -> Progress:
    validation_key, rounds_key = jax.random.split(key)
    # Always from the same states, so that returns differ only by the policy.
    validate = functools.partial(
      policy_steps.validate, model=model, key=validation_key
    )

    def take_steps(progress: Progress) -> Progress:
      keys = jax.random.split(
        jax.random.fold_in(rounds_key, progress.step), per_round
      )
      theta, metrics = jax.lax.scan(
        lambda theta, key: policy_steps.step(theta, model, hyper, key),
        progress.params,
        keys,
      )
      return progress._replace(
        params=theta,
        step=progress.step + per_round,
        tally=tally_lib.add(progress.tally, metrics),
      )

    def take_round(progress: Progress) -> Progress:
      progress = take_steps(progress)
      best, passed = stopping.validate(
        progress.best,
        progress.params,
        validate(progress.params),
        progress.step,
        worsened_fraction=hyper['improve.worsened_fraction'],
      )
      return progress._replace(
        best=best,
        passed=progress.passed + passed,
        failed=progress.failed + ~passed,
      )

    def goes_on(progress: Progress) -> jax.Array:
      return stopping.goes_on(
        progress.best,
        progress.step,
        num_steps=section.num_steps,
        patience=section.patience,
      )

    # The tally starts empty; its names are those of a step's metrics.
    shapes = jax.eval_shape(policy_steps.step, theta, model, hyper, key)[1]
    no_step = jnp.zeros((), jnp.int32)
    before = Progress(
      params=theta,
      step=no_step,
      best=stopping.start(theta, validate(theta))
      if validating
      else stopping.Best(theta, jnp.zeros(0), no_step),
      passed=no_step,
      failed=no_step,
      tally=tally_lib.start(shapes),
    )
    if validating:
      return jax.lax.while_loop(goes_on, take_round, before)
    after = take_steps(before)
    # Without validation the last policy is the best.
    best = after.best._replace(params=after.params, step=after.step)
    return after._replace(best=best)

  return learn
