"""Meta-learning by adaptation: the inner step and the outer objective.

One inner step of vanilla policy gradient per task i (Clavera et al. 2018, eq.
3; Finn et al. 2017), on rollouts T_i of theta with advantages A_i,

  theta_i' = theta + alpha grad L_i(theta),
  L_i(theta) = mean over T_i of log pi_theta(a|s) A_i,

and an outer objective on rollouts T_i' of theta_i' with advantages A_i', all
means over tasks weighted by w_i (`task_weights`, 0 for a rejected task),

  surrogate(theta) = mean_i mean_T_i' pi_{theta_i'(theta)}(a|s) / pi_i(a|s) A_i'
  kl(theta)        = mean_i mean_T_i' KL(pi_i || pi_{theta_i'(theta)}),

where pi_i is the policy that sampled T_i', held fixed. How T_i itself depends
on theta is not differentiated, as in the authors' code.

Their derivatives at theta are in `meta_gradient`.

Where the tasks are shared out over devices, every mean over tasks is a device's
share of it: the sum over its own tasks, by weights that sum to 1 over all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.policies import gaussian

PolicyApply = Callable[..., gaussian.Gaussian]


class MetaBatch(NamedTuple):
  """What one outer step learns from; every leaf leads with tasks [K, P]."""

  pre: types.Trajectory  # T_i
  pre_advantages: jax.Array  # A_i, [K, P, T, N]
  adapted: types.Params  # theta_i' at the current theta
  post: types.Trajectory  # T_i'
  post_advantages: jax.Array  # A_i', [K, P, T, N]
  weight: jax.Array  # w_i, [K, P], from `task_weights`


def over_tasks(fn: Callable, in_axes: int | tuple = 0) -> Callable:
  """`fn` mapped over the task axes [K, P]; `in_axes` 0 or None per argument."""
  return jax.vmap(jax.vmap(fn, in_axes), in_axes)


def task_weights(
  accepted: jax.Array, all_sum: Callable[[Any], Any] = lambda tree: tree
) -> jax.Array:
  """w_i [K, P], equal for the `accepted` tasks and 0 for others; they sum to 1.

  All are 0 if none is accepted.

  Args:
    accepted: 1. or 0. [K, P], or unequal weights.
    all_sum: over devices, where each has its share of the tasks.
  """
  total = all_sum(jnp.sum(accepted))
  return accepted / jnp.where(total > 0, total, 1.0)


def mean_over_tasks(x: jax.Array, weight: jax.Array) -> jax.Array:
  """The mean of `x` [K, P, ...] over tasks, by `task_weights` [K, P]."""
  weight = broadcasting.trailing(weight, x.ndim)
  return jnp.sum(jnp.where(weight > 0, x, 0.0) * weight, (0, 1))


def inner_objective(
  policy_params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  objective: str,
  policy_apply: PolicyApply = gaussian.apply,
) -> jax.Array:
  """L_i(theta), a scalar.

  Args:
    policy_params: theta.
    trajectory: T_i, `[T, N, ...]`.
    advantages: A_i, `[T, N]`.
    objective: `log_likelihood`, log pi * A, or `likelihood_ratio`, pi / pi_old
      * A with the log-probabilities stored in the trajectory. Their gradients
      agree at the sampling policy, their Hessians do not.
    policy_apply: `(params, obs) -> distribution`.
  """
  obs = masking.live(trajectory.obs, trajectory.mask)
  dist = policy_apply(policy_params, obs)
  return inner_gain(dist, trajectory, advantages, objective=objective)


def inner_gain(
  dist: gaussian.Gaussian,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  objective: str,
) -> jax.Array:
  """L_i where the policy acts by `dist` at the trajectory's observations.

  Args:
    dist: means `[..., A]`.
    trajectory: T_i, `[..., A]` and so on.
    advantages: A_i, `[...]`.
    objective: as in `inner_objective`.
  """
  trajectory = masking.live_steps(trajectory)
  log_prob = gaussian.log_prob(dist, trajectory.action)
  if objective == 'likelihood_ratio':
    likelihood = jnp.exp(log_prob - trajectory.log_prob)
  elif objective == 'log_likelihood':
    likelihood = log_prob
  else:
    raise ValueError(
      f'objective={objective!r}: must be one of log_likelihood,'
      ' likelihood_ratio'
    )
  live_advantages = masking.live(advantages, trajectory.mask)
  return masking.mean(likelihood * live_advantages, trajectory.mask)


def outer_gain(
  dist: gaussian.Gaussian,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  entropy_coef: jax.Array | float,
) -> jax.Array:
  """Task i's part of the surrogate where theta_i' acts by `dist`.

  Args:
    dist: means `[..., A]`.
    trajectory: T_i', `[..., A]` and so on.
    advantages: A_i', `[...]`.
    entropy_coef: weight of the entropy (section A.2).
  """
  trajectory = masking.live_steps(trajectory)
  log_ratio = gaussian.log_prob(dist, trajectory.action) - trajectory.log_prob
  live_advantages = masking.live(advantages, trajectory.mask)
  gain = masking.mean(jnp.exp(log_ratio) * live_advantages, trajectory.mask)
  return gain + entropy_coef * gaussian.entropy(dist)


def adapt(
  policy_params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
  policy_apply: PolicyApply = gaussian.apply,
) -> types.Params:
  """theta_i' = theta + alpha grad L_i(theta), for one task.

  Args:
    policy_params: theta.
    trajectory: T_i, `[T, N, ...]`, rollouts of theta.
    advantages: A_i, `[T, N]`.
    inner_lr: alpha.
    objective: as in `inner_objective`.
    policy_apply: `(params, obs) -> distribution`.

  Returns:
    theta_i', differentiable in theta.
  """
  gradient = jax.grad(inner_objective)(
    policy_params,
    trajectory,
    advantages,
    objective=objective,
    policy_apply=policy_apply,
  )
  return jax.tree.map(lambda p, g: p + inner_lr * g, policy_params, gradient)


class MetaObjective(NamedTuple):
  """The outer step's functions of theta, as `trpo.trpo_step` takes them."""

  surrogate: Callable[[types.Params], jax.Array]
  kl: Callable[[types.Params], jax.Array]


def meta_objective(
  batch: MetaBatch,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
  entropy_coef: jax.Array | float = 0.0,
  policy_apply: PolicyApply = gaussian.apply,
) -> MetaObjective:
  """The outer objective of `batch` and its trust region.

  Args:
    batch: sampled at theta.
    inner_lr: alpha.
    objective: of the inner step.
    entropy_coef: weight of the adapted policies' mean entropy (section A.2).
    policy_apply: `(params, obs) -> distribution`.
  """
  batch = mask_weightless(batch)

  def adapt_task(
    params: types.Params, pre: types.Trajectory, advantages: jax.Array
  ) -> types.Params:
    return adapt(
      params,
      pre,
      advantages,
      inner_lr=inner_lr,
      objective=objective,
      policy_apply=policy_apply,
    )

  def adapted_policies(params: types.Params) -> types.Params:
    return over_tasks(adapt_task, (None, 0, 0))(
      params, batch.pre, batch.pre_advantages
    )

  def task_surrogate(
    adapted: types.Params, post: types.Trajectory, advantages: jax.Array
  ) -> jax.Array:
    dist = policy_apply(adapted, masking.live(post.obs, post.mask))
    return outer_gain(dist, post, advantages, entropy_coef)

  def task_kl(
    adapted: types.Params, old: types.Params, post: types.Trajectory
  ) -> jax.Array:
    obs = masking.live(post.obs, post.mask)
    divergence = gaussian.kl(policy_apply(old, obs), policy_apply(adapted, obs))
    return masking.mean(divergence, post.mask)

  def surrogate(params: types.Params) -> jax.Array:
    values = over_tasks(task_surrogate)(
      adapted_policies(params), batch.post, batch.post_advantages
    )
    return mean_over_tasks(values, batch.weight)

  def kl(params: types.Params) -> jax.Array:
    values = over_tasks(task_kl)(
      adapted_policies(params), batch.adapted, batch.post
    )
    return mean_over_tasks(values, batch.weight)

  return MetaObjective(surrogate, kl)


def plasticity(
  policy_params: types.Params,
  batch: MetaBatch,
  *,
  policy_apply: PolicyApply = gaussian.apply,
) -> jax.Array:
  """mean_i KL(pi_theta || pi_{theta_i'}) on T_i: how far adaptation moves.

  The quantity of section 6.3; a scalar, in nats.
  """

  def task(pre: types.Trajectory, adapted: types.Params) -> jax.Array:
    obs = masking.live(pre.obs, pre.mask)
    divergence = gaussian.kl(
      policy_apply(policy_params, obs), policy_apply(adapted, obs)
    )
    return masking.mean(divergence, pre.mask)

  values = over_tasks(task)(batch.pre, batch.adapted)
  return mean_over_tasks(values, batch.weight)


def mask_weightless(batch: MetaBatch) -> MetaBatch:
  """Masks every step of a task of weight 0, and zeroes its policy.

  Whatever is wrong with the task would reach the gradient as 0 * NaN.
  """

  def live(x: jax.Array) -> jax.Array:
    weight = broadcasting.trailing(batch.weight, x.ndim)
    return jnp.where(weight > 0, x, 0.0)

  return batch._replace(
    pre=batch.pre._replace(mask=live(batch.pre.mask)),
    post=batch.post._replace(mask=live(batch.post.mask)),
    adapted=jax.tree.map(live, batch.adapted),
  )
