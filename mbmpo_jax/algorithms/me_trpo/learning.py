"""All policy steps of an iteration: a fixed number, or until validation stops.

With validation the steps come in rounds, each of which ends with one; one XLA
loop goes over the rounds for as long as `stopping` says so.
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
  """Where the policy stands within an iteration."""

  params: types.Params
  step: jax.Array  # int32, steps taken or tried
  best: stopping.Best
  passed: jax.Array  # int32, validations
  failed: jax.Array  # int32
  tally: tally_lib.Tally


def make(
  section: config_lib.Improve, policy_steps: policy_step.PolicyStep
) -> Callable[..., Progress]:
  """`(theta, model, hyper, key) -> Progress`, for a whole iteration.

  Args:
    section: how many steps.
    policy_steps: a step, and a validation.

  Returns:
    The function; it consumes its key. What the iteration leaves is
    `Progress.best`: without validation, the last policy.
  """
  validating = section.stopping == 'validation'
  per_round = section.validate_every if validating else section.num_steps

  def learn(
    theta: types.Params, model: Any, hyper: base.Hyper, key: jax.Array
  ) -> Progress:
    validation_key, rounds_key = jax.random.split(key)
    # In the same states each time, so that returns differ by the policy alone.
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

    # Nothing is counted yet; the names are those of a step.
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
