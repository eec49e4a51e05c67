"""The outer objective of `maml` and its derivatives at theta.

With theta_i' the result of task i's inner step at theta, J_i its Jacobian, g_i
the gradient of task i's surrogate at theta_i' and F_i the Fisher matrix there
(`fisher`),

  J_i = I + alpha_i Hessian of L_i,
  gradient = mean_i J_i^T g_i,    H v = mean_i J_i^T F_i J_i v,

symbols as in `maml`; alpha_i is alpha, or a task's own (`inner_rate`). The kl
is at its minimum at theta, so that H is its whole Hessian. All derivatives are
JAX's own, for any policy that has a density; none is nested deeper than the
inner step's Hessian. What they need of the samples is recorded once; a product
then costs two inner Hessian products, one forward and one reverse derivative of
the policy; v'Hv alone, one Hessian product and the forward derivative.
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
  """What is kept of a task's inner step from theta; arrays alone."""

  dist: Any  # of theta on T_i
  jacobian: linearization.Record  # of J_i
  rate: jax.Array | None = None  # alpha_i, where it is a task's own


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
  """theta_i', as `maml.adapt` has it, and what it came from.

  Arguments are those of `maml.adapt`; with `max_kl` the step is that of
  `inner_rate.bounded`.
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

  The quantity of section 6.3; a scalar, in nats.

  Args:
    policy: with a density.
    adapted: theta_i'.
    adaptation: to there.
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
    policy: with a density.
    params: theta.
    batch: sampled at theta.
    inner_lr: alpha.
    max_kl: of the inner step, as in `adapt`.
    objective: of the inner step.
    entropy_coef: weight of the adapted policies' mean entropy.
    adaptations: what `adapt` gave beside `batch.adapted`, leading [K, P]; by
      default it is computed once more.

  Returns:
    The arguments of `trpo.trpo_step` that depend on the problem.
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
  # A step up a gradient has a symmetric Jacobian: this is J_i^T, too.
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
    """Task i's part, by the distribution on T_i'."""
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
    """Task i's surrogate and kl."""
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
