"""When the policy stops learning from the models (Kurutach et al. 2018, 4.3).

Every few steps the policy is validated: its return in each of the K models. The
validation fails if more than a given share of these are worse than those of the
best policy so far; otherwise the policy becomes the best one. Learning stops at
a given number of steps after the best, which is what is kept. The models must
agree that the policy gets better, so that it cannot exploit one of them.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types


class Best(NamedTuple):
  """The policy that passed the last validation which did not fail."""

  params: types.Params
  returns: jax.Array  # [K], its returns in the models
  step: jax.Array  # int32, after how many steps; 0 before the first


def start(params: types.Params, returns: jax.Array) -> Best:
  """The policy before the first step, whose returns `[K]` are the first bar."""
  chex.assert_rank(returns, 1)
  return Best(params, _comparable(returns), jnp.zeros((), jnp.int32))


def validate(
  best: Best,
  params: types.Params,
  returns: jax.Array,
  step: jax.Array,
  *,
  worsened_fraction: jax.Array | float,
) -> tuple[Best, jax.Array]:
  """Makes the policy the best one, unless its validation fails.

  Args:
    best: so far.
    params: of the policy.
    returns: its returns in the models, `[K]`. One that is not finite is worse
      than any that is.
    step: int32, steps taken so far.
    worsened_fraction: share of the models in which it may be worse.

  Returns:
    The best policy, and whether the validation passed, a bool scalar.

  Example:
    Worse in one of two models:

    >>> before = start(0.0, jnp.array([1.0, 2.0]))
    >>> returns, step = jnp.array([9.0, 1.0]), jnp.int32(5)
    >>> bool(validate(before, 1.0, returns, step, worsened_fraction=0.3)[1])
    False
    >>> bool(validate(before, 1.0, returns, step, worsened_fraction=0.5)[1])
    True
  """
  chex.assert_equal_shape([best.returns, returns])
  returns = _comparable(returns)
  worsened = jnp.sum(returns < best.returns, dtype=float)
  passed = worsened <= worsened_fraction * returns.shape[0]
  new = Best(params, returns, step)
  return jax.tree.map(lambda a, b: jnp.where(passed, a, b), new, best), passed


def goes_on(
  best: Best, step: jax.Array, *, num_steps: int, patience: int
) -> jax.Array:
  """Whether to take more steps, a bool scalar.

  Args:
    best: so far.
    step: int32, steps taken so far.
    num_steps: the most.
    patience: steps after the best one at which to stop.
  """
  return (step < num_steps) & (step - best.step < patience)


def _comparable(returns: jax.Array) -> jax.Array:
  """NaN compares with nothing."""
  return jnp.where(jnp.isfinite(returns), returns, -jnp.inf)
