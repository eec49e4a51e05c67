"""A trust-region step (Schulman et al. 2015) on any objective and divergence.

  maximise surrogate(theta)  subject to  kl(theta) <= delta

The step direction is the natural gradient x = A^-1 g, where g is the gradient
of the surrogate, A = H + damping I, and H is the Hessian of the kl at theta.
The full step is sqrt(2 delta / x'Ax) x. A backtracking line search on the exact
surrogate and kl shortens it if necessary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.optim import linear

_EPSILON = 1e-8

# theta -> (surrogate, kl), two scalars
Objective = Callable[[types.Params], tuple[jax.Array, jax.Array]]


class Expansion(NamedTuple):
  """An objective and its derivatives at theta, an input of `trpo_step`."""

  surrogate: jax.Array
  gradient: types.Params  # of the surrogate
  curvature: Callable[[types.Params], types.Params]  # v -> H v
  # v -> v'Hv, used in the last iteration; `None` if it costs as much as H v.
  quadratic: Callable[[types.Params], jax.Array] | None
  objective: Objective  # for parameters other than theta


def expand(objective: Objective, params: types.Params) -> Expansion:
  """An objective's derivatives at `params`, by automatic differentiation."""
  surrogate, gradient = jax.value_and_grad(lambda p: objective(p)[0])(params)

  def curvature(v: types.Params) -> types.Params:
    slope = jax.grad(lambda p: objective(p)[1])
    return jax.jvp(slope, (params,), (v,))[1]

  return Expansion(surrogate, gradient, curvature, None, objective)


class TrpoInfo(NamedTuple):
  """Statistics of a step; scalars."""

  surrogate_gain: jax.Array  # of the step taken; 0 where rejected
  kl: jax.Array  # of the step taken; 0 where rejected
  accepted: jax.Array  # bool
  backtracks: jax.Array  # int32, index of the last length tried; -1 for none
  finite: jax.Array  # bool, whether gradient and direction are finite
  non_finite_kl: jax.Array  # int32, tried lengths with non-finite gain or kl


def trpo_step(
  params: types.Params,
  objective: Objective | Expansion,
  *,
  max_kl: jax.Array | float,
  cg_iterations: int,
  damping: jax.Array | float,
  backtrack_ratio: jax.Array | float = 0.8,
  max_backtracks: int = 15,
  all_sum: Callable[[Any], Any] = lambda tree: tree,
) -> tuple[types.Params, TrpoInfo]:
  """Takes one step that improves the surrogate within the trust region.

  Args:
    params: theta, any pytree of floats.
    objective: theta -> (surrogate, kl), two scalars. The surrogate is
      maximised; the kl must be zero with zero gradient at `params`. Or its
      `Expansion` at `params`, if the derivatives are known.
    max_kl: delta.
    cg_iterations: conjugate-gradient iterations.
    damping: added to the diagonal of H.
    backtrack_ratio: factor between successive step lengths.
    max_backtracks: number of step lengths to try, the full one first.
    all_sum: sums a tree over devices, if each device computes its part of the
      functions; all devices take the same step. It is called once for the
      gradient, once per conjugate-gradient iteration and once per step length.

  Returns:
    The new parameters and statistics of the step. The parameters are `params`
    unchanged if no step length gives finite values, improves the surrogate and
    keeps the kl within delta.

  Example:
    Ascent along x + y, at most sqrt(2 delta) from the origin:

    >>> def sum_and_size(theta):
    ...   return jnp.sum(theta), jnp.sum(jnp.square(theta)) / 2
    >>> theta, info = trpo_step(
    ...   jnp.zeros(2), sum_and_size, max_kl=1.0, cg_iterations=2, damping=1e-5
    ... )
    >>> theta.round(3).tolist(), bool(info.accepted)
    ([1.0, 1.0], True)
  """
  if not isinstance(objective, Expansion):
    objective = expand(objective, params)
  at_params = objective
  surrogate, gradient = all_sum((at_params.surrogate, at_params.gradient))
  direction = natural_gradient(
    gradient,
    at_params.curvature,
    cg_iterations=cg_iterations,
    damping=damping,
    quadratic_fn=at_params.quadratic,
    all_sum=all_sum,
  )
  theta, unravel = jax.flatten_util.ravel_pytree(params)
  gradient, _ = jax.flatten_util.ravel_pytree(gradient)
  # x'Ax = x'g, see `linear.conjugate_gradient`.
  curvature = jnp.maximum(linear.dot(direction, gradient), 0.0)
  full_step = jnp.sqrt(2 * max_kl / (curvature + _EPSILON)) * direction
  finite = jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(full_step))

  def attempt(backtracks: jax.Array) -> tuple[jax.Array, ...]:
    candidate = theta + backtrack_ratio**backtracks * full_step
    value, kl = all_sum(at_params.objective(unravel(candidate)))
    gain = value - surrogate
    finite = masking.all_finite((candidate, gain, kl))
    return gain, kl, finite & (gain > 0) & (kl <= max_kl), ~finite

  def searching(state: tuple[jax.Array, ...]) -> jax.Array:
    backtracks, *_, good = state
    return finite & ~good & (backtracks + 1 < max_backtracks)

  def shorten(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    backtracks, non_finite, *_ = state
    gain, kl, good, failed = attempt(backtracks + 1)
    return backtracks + 1, non_finite + failed, gain, kl, good

  zero = jnp.zeros_like(surrogate)
  start: Any = (jnp.int32(-1), jnp.int32(0), zero, zero, jnp.zeros((), bool))
  backtracks, non_finite, gain, kl, accepted = jax.lax.while_loop(
    searching, shorten, start
  )
  step = jnp.where(accepted, backtrack_ratio**backtracks * full_step, 0.0)
  return unravel(theta + step), TrpoInfo(
    surrogate_gain=jnp.where(accepted, gain, 0.0),
    kl=jnp.where(accepted, kl, 0.0),
    accepted=accepted,
    backtracks=backtracks,
    finite=finite,
    non_finite_kl=non_finite,
  )


def natural_gradient(
  gradient: types.Params,
  curvature_fn: Callable[[types.Params], types.Params],
  *,
  cg_iterations: int,
  damping: jax.Array | float,
  quadratic_fn: Callable[[types.Params], jax.Array] | None = None,
  all_sum: Callable[[Any], Any] = lambda tree: tree,
) -> jax.Array:
  """x, approximately A^-1 g with A = H + damping I, by conjugate gradients.

  Args:
    gradient: g, a pytree of D numbers, summed over devices.
    curvature_fn: v -> H v, for pytrees like `gradient`.
    cg_iterations: conjugate-gradient iterations.
    damping: added to the diagonal of H.
    quadratic_fn: v -> v'Hv, see `Expansion`.
    all_sum: sums products over devices, see `trpo_step`.

  Returns:
    x, flat `[D]`, in the order of `ravel_pytree`.
  """
  flat, unravel = jax.flatten_util.ravel_pytree(gradient)

  def product(v: jax.Array) -> jax.Array:
    curved = all_sum(curvature_fn(unravel(v)))
    curved, _ = jax.flatten_util.ravel_pytree(curved)
    return curved + damping * v

  def quadratic(v: jax.Array) -> jax.Array:
    if quadratic_fn is None:
      return linear.dot(v, product(v))
    return all_sum(quadratic_fn(unravel(v))) + damping * linear.dot(v, v)

  return linear.conjugate_gradient(
    product, quadratic, flat, iterations=cg_iterations
  )
