"""The outer objective of `maml` and its derivatives at theta.

Let theta_i' be the result of task i's inner step at theta, J_i its Jacobian,
g_i the gradient of task i's surrogate at theta_i', and F_i the Fisher matrix
there (`fisher`). Then

  J_i = I + alpha_i Hessian of L_i,
  gradient = mean_i J_i^T g_i,    H v = mean_i J_i^T F_i J_i v,

with the symbols of `maml`. alpha_i is either alpha or the task's step size from
`inner_rate`. The kl has its minimum at theta, so H is its exact Hessian.

All derivatives are computed by JAX, for any policy that has a density; the
deepest nesting is the inner step's Hessian. The linearisations are recorded
once. A product H v then costs two inner Hessian products and one forward and
one reverse derivative of the policy. v'Hv costs one Hessian product and the
forward derivative.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mbmpo_jax import tasks
from mbmpo_jax import types
from mbmpo_jax.objectives import maml
from mbmpo_jax.objectives import policy_gradient
from mbmpo_jax.optim import fisher as fisher_lib
from mbmpo_jax.optim import inner_rate
from mbmpo_jax.optim import linearization
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import base


class Adaptation(NamedTuple):
  """Arrays kept from a task's inner step at theta, for derivatives."""

  dist: Any  # the distribution of pi_theta on T_i
  jacobian: linearization.Record  # the record of J_i
  rate: jax.Array | None = None  # alpha_i, if it differs between tasks


def adapt(
  policy: base.Policy,
  params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  inner_lr: jax.Array | float,
  max_kl: float | None = None,
  objective: str = 'log_likelihood',
) -> tuple[types.Params, Adaptation]:
  """theta_i' of `maml.adapt`, and the arrays kept for derivatives.

  The arguments are those of `maml.adapt`. With `max_kl`, the step size is that
  of `inner_rate.bounded`.
  """
  rate = None
  if max_kl is not None:
    rate = inner_lr = inner_rate.bounded(
      policy,
      params,
      trajectory,
      advantages,
      inner_lr=inner_lr,
      max_kl=max_kl,
      objective=objective,
    )

  def inner(params: types.Params) -> types.Params:
    return maml.adapt(
      policy,
      params,
      trajectory,
      advantages,
      inner_lr=inner_lr,
      objective=objective,
    )

  adapted, jacobian = linearization.record(inner, params)
  dist = policy_gradient.over(policy, params, trajectory)
  return adapted, Adaptation(dist, jacobian, rate)


def plasticity(
  policy: base.Policy,
  adapted: types.Params,
  adaptation: Adaptation,
  trajectory: types.Trajectory,
) -> jax.Array:
  """KL(pi_theta || pi_{theta_i'}) on T_i: how far the step moves the policy.

  This is the quantity of section 6.3; a scalar, in nats.

  Args:
    policy: must have a density.
    adapted: theta_i'.
    adaptation: the second result of `adapt`, for theta_i'.
    trajectory: T_i.
  """
  new = policy_gradient.over(policy, adapted, trajectory)
  return policy_gradient.mean_kl(adaptation.dist, new, trajectory.mask)


def differentiate(
  policy: base.Policy,
  params: types.Params,
  batch: maml.MetaBatch,
  *,
  inner_lr: jax.Array | float,
  max_kl: float | None = None,
  objective: str = 'log_likelihood',
  entropy_coef: jax.Array | float = 0.0,
  adaptations: Adaptation | None = None,
) -> trpo.Expansion:
  """Differentiates `maml.meta_objective` of `batch` at `params`.

  Args:
    policy: must have a density.
    params: theta.
    batch: the rollouts and advantages, sampled at theta.
    inner_lr: alpha.
    max_kl: of the inner step, see `adapt`.
    objective: of the inner step, see `maml.inner_objective`.
    entropy_coef: weight of the adapted policies' mean entropy.
    adaptations: the second results of `adapt` for `batch.adapted`, with leading
      axes [K, P]. By default they are computed again.

  Returns:
    The expansion at theta, an input of `trpo.trpo_step`.
  """
  batch = maml.mask_unusable(batch)
  task = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), batch
  )
  about = fisher_lib.products(policy, params, task.post)

  def inner_step(
    params: types.Params,
    trajectory: types.Trajectory,
    advantages: jax.Array,
    rate: jax.Array | None,
  ) -> types.Params:
    return maml.adapt(
      policy,
      params,
      trajectory,
      advantages,
      inner_lr=inner_lr if rate is None else rate,
      objective=objective,
    )

  rate = None
  if max_kl is not None:
    rate = jax.ShapeDtypeStruct((), batch.weight.dtype)
  # A gradient step has a symmetric Jacobian, so this is J_i^T as well.
  jacobian = linearization.replay(
    inner_step, params, task.pre, task.pre_advantages, rate
  )

  def adaptation(task: maml.MetaBatch) -> Adaptation:
    _, kept = adapt(
      policy,
      params,
      task.pre,
      task.pre_advantages,
      inner_lr=inner_lr,
      max_kl=max_kl,
      objective=objective,
    )
    return kept

  def surrogate(task: maml.MetaBatch, dist: Any) -> jax.Array:
    """Task i's surrogate, from the distribution on T_i'."""
    return policy_gradient.surrogate(
      dist, task.post, task.post_advantages, entropy_coef=entropy_coef
    )

  def at_theta(
    task: maml.MetaBatch, adaptation: Adaptation
  ) -> tuple[jax.Array, types.Params, fisher_lib.Fisher]:
    """Task i's surrogate, J_i^T g_i and F_i."""
    fisher = about.record(task.adapted, task.post)
    value, cotangent = jax.value_and_grad(surrogate, 1)(task, fisher.dist)
    gradient = about.pull_back(fisher, cotangent)
    return value, jacobian(adaptation.jacobian)(gradient), fisher

  def elsewhere(
    params: types.Params,
    task: maml.MetaBatch,
    old: Any,
    rate: jax.Array | None,
  ) -> tuple[jax.Array, jax.Array]:
    """Task i's surrogate and kl at any `params`."""
    adapted = inner_step(params, task.pre, task.pre_advantages, rate)
    new = policy_gradient.over(policy, adapted, task.post)
    kl = policy_gradient.mean_kl(old, new, task.post.mask)
    return surrogate(task, new), kl

  def mean_over_tasks(fn: Callable, *args: Any) -> Any:
    results = tasks.map_tasks(fn, *args)
    return jax.tree.map(lambda x: tasks.mean(x, batch.weight), results)

  if adaptations is None:
    adaptations = tasks.map_tasks(adaptation, batch)
  *values, fishers = tasks.map_tasks(at_theta, batch, adaptations)
  value, gradient = jax.tree.map(lambda x: tasks.mean(x, batch.weight), values)

  def curvature(v: types.Params) -> types.Params:
    def product(
      adaptation: Adaptation, fisher: fisher_lib.Fisher
    ) -> types.Params:
      push = jacobian(adaptation.jacobian)
      return push(about.product(fisher, push(v)))

    return mean_over_tasks(product, adaptations, fishers)

  def quadratic(v: types.Params) -> jax.Array:
    def product(adaptation: Adaptation, fisher: fisher_lib.Fisher) -> jax.Array:
      return about.quadratic(fisher, jacobian(adaptation.jacobian)(v))

    return mean_over_tasks(product, adaptations, fishers)

  return trpo.Expansion(
    surrogate=value,
    gradient=gradient,
    curvature=curvature,
    quadratic=quadratic,
    objective=lambda params: mean_over_tasks(
      functools.partial(elsewhere, params),
      batch,
      fishers.dist,
      adaptations.rate,
    ),
  )
