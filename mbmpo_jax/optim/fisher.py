"""Products with the Hessian of a mean KL divergence (the Fisher matrix).

The KL divergence from the policy at theta has its minimum at theta. Therefore
its Hessian in theta is

  F = mean over T of D^T M D,

where D is the Jacobian of the distribution's parameters in theta and M the
Hessian of the KL in those parameters. This is the Fisher matrix (Schulman et
al. 2015, appendix C). A product F v costs one forward and one reverse
derivative of the policy; v'Fv costs only the forward one. The linearisations
are recorded once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.objectives import policy_gradient
from mbmpo_jax.optim import linear
from mbmpo_jax.optim import linearization
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import base


class Fisher(NamedTuple):
  """F of one policy on one trajectory; all fields are arrays."""

  dist: Any  # the distribution at every step
  jacobian: linearization.Record  # D
  metric: linearization.Record  # M, including the mean over T


class Products(NamedTuple):
  """The operations on a Fisher matrix."""

  # (theta, trajectory) -> Fisher
  record: Callable[[types.Params, types.Trajectory], Fisher]
  # (fisher, v) -> F v
  product: Callable[[Fisher, types.Params], types.Params]
  # (fisher, v) -> v'F v
  quadratic: Callable[[Fisher, types.Params], jax.Array]
  # (fisher, cotangent of the distribution) -> D^T times the cotangent
  pull_back: Callable[[Fisher, Any], types.Params]


def products(
  policy: base.Policy, params: types.Params, trajectory: types.Trajectory
) -> Products:
  """The operations for a policy and trajectories of one shape.

  Args:
    policy: must have a density.
    params: only shapes and types are read; the functions' `params` must match.
    trajectory: `[T, N, ...]`; only shapes and types are read.
  """

  def over(params: types.Params, trajectory: types.Trajectory) -> Any:
    return policy_gradient.over(policy, params, trajectory)

  def kl_gradient(new: Any, old: Any, mask: jax.Array) -> Any:
    """The gradient in `new` of the mean KL(old || new)."""
    return jax.grad(lambda new: policy_gradient.mean_kl(old, new, mask))(new)

  dist = jax.eval_shape(over, params, trajectory)
  jacobian = linearization.replay(over, params, trajectory)
  metric = linearization.replay(kl_gradient, dist, dist, trajectory.mask)

  def record(params: types.Params, trajectory: types.Trajectory) -> Fisher:
    dist, jacobian = linearization.record(
      lambda params: over(params, trajectory), params
    )
    _, metric = linearization.record(
      lambda new: kl_gradient(new, dist, trajectory.mask), dist
    )
    return Fisher(dist, jacobian, metric)

  def pull_back(fisher: Fisher, cotangent: Any) -> types.Params:
    push = jacobian(fisher.jacobian)
    return jax.linear_transpose(push, params)(cotangent)[0]

  def product(fisher: Fisher, v: types.Params) -> types.Params:
    change = jacobian(fisher.jacobian)(v)
    return pull_back(fisher, metric(fisher.metric)(change))

  def quadratic(fisher: Fisher, v: types.Params) -> jax.Array:
    change = jacobian(fisher.jacobian)(v)
    return _inner_product(change, metric(fisher.metric)(change))

  return Products(record, product, quadratic, pull_back)


def differentiate(
  policy: base.Policy,
  params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  entropy_coef: jax.Array | float = 0.0,
) -> trpo.Expansion:
  """Differentiates `policy_gradient.surrogate_and_kl` at `params`.

  Args:
    policy: must have a density.
    params: theta; it need not be the policy that sampled the trajectory.
    trajectory: T, `[T, N, ...]`.
    advantages: A, `[T, N]`.
    entropy_coef: weight of the mean entropy in the surrogate.

  Returns:
    The expansion at theta, an input of `trpo.trpo_step`.
  """
  about = products(policy, params, trajectory)
  fisher = about.record(params, trajectory)

  def surrogate(dist: Any) -> jax.Array:
    return policy_gradient.surrogate(
      dist, trajectory, advantages, entropy_coef=entropy_coef
    )

  value, cotangent = jax.value_and_grad(surrogate)(fisher.dist)
  return trpo.Expansion(
    surrogate=value,
    gradient=about.pull_back(fisher, cotangent),
    curvature=lambda v: about.product(fisher, v),
    quadratic=lambda v: about.quadratic(fisher, v),
    objective=policy_gradient.surrogate_and_kl(
      policy, params, trajectory, advantages, entropy_coef=entropy_coef
    ),
  )


def _inner_product(a: Any, b: Any) -> jax.Array:
  """The inner product of two trees."""
  terms = jax.tree.map(
    lambda a, b: linear.dot(a.reshape(-1), b.reshape(-1)), a, b
  )
  return jnp.sum(jnp.stack(jax.tree.leaves(terms)))
