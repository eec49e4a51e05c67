"""The stopping rule of learning in models (Kurutach et al. 2018, section 4.3).

Every few steps the policy is validated by its return in each of the K models.
The validation fails if the return is lower than that of the best policy so far
in more than a given share of the models. Otherwise the policy becomes the best
one. Learning stops a given number of steps after the best policy, which is
kept. The models must agree that the policy improves, so that it cannot exploit
one of them.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types


class Best(NamedTuple):
  """The policy of the last validation that passed."""

  params: types.Params
  returns: jax.Array  # [K], its returns in the models
  step: jax.Array  # int32, steps before this validation; 0 for the first policy


def start(params: types.Params, returns: jax.Array) -> Best:
  """The policy before the first step, with its returns `[K]`, as the best."""
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
    best: the best policy so far.
    params: the policy to validate.
    returns: its returns in the models, `[K]`. A return that is not finite is
      worse than all finite ones.
    step: int32, steps taken so far.
    worsened_fraction: greatest share of the models in which it may be worse.

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
    best: the best policy so far.
    step: int32, steps taken so far.
    num_steps: greatest number of steps.
    patience: steps after the best policy at which to stop.
  """
  return (step < num_steps) & (step - best.step < patience)


def _comparable(returns: jax.Array) -> jax.Array:
  """Replaces NaN, which cannot be compared, and infinities by -inf."""
  return jnp.where(jnp.isfinite(returns), returns, -jnp.inf)
