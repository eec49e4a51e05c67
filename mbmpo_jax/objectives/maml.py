"""MAML for policies: the inner step and the outer objective.

The inner step is one step of vanilla policy gradient per task i (Clavera et al.
2018, eq. 3; Finn et al. 2017), on rollouts T_i of theta with advantages A_i,

  theta_i' = theta + alpha grad L_i(theta),
  L_i(theta) = mean over T_i of log pi_theta(a|s) A_i.

The outer objective and its trust region are computed on rollouts T_i' of
theta_i' with advantages A_i',

  surrogate(theta) = mean_i mean_T_i' pi_{theta_i'(theta)}(a|s) / pi_i(a|s) A_i'
  kl(theta)        = mean_i mean_T_i' KL(pi_i || pi_{theta_i'(theta)}),

where pi_i is the policy that sampled T_i', held fixed. Means over tasks are
weighted by w_i (`tasks.weights`), which is 0 for a task that is not usable. The
dependence of T_i itself on theta is not differentiated, as in the authors'
code.

The derivatives of the outer objective at theta are in `optim/meta_gradient.py`.

If the tasks are distributed over devices, every mean over tasks is this
device's part of it: the weighted sum over its own tasks. The weights sum to 1
over the tasks of all devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import tasks
from mbmpo_jax import types
from mbmpo_jax.objectives import policy_gradient
from mbmpo_jax.policies import base

_INNER_OBJECTIVES = {
  'log_likelihood': policy_gradient.log_likelihood,
  'likelihood_ratio': policy_gradient.likelihood_ratio,
}


class MetaBatch(NamedTuple):
  """The data of one outer step; all leaves have leading task axes [K, P]."""

  pre: types.Trajectory  # T_i
  pre_advantages: jax.Array  # A_i, [K, P, T, N]
  adapted: types.Params  # theta_i' at the current theta
  post: types.Trajectory  # T_i'
  post_advantages: jax.Array  # A_i', [K, P, T, N]
  weight: jax.Array  # w_i, [K, P], from `tasks.weights`


def inner_objective(
  policy: base.Policy,
  params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  objective: str = 'log_likelihood',
) -> jax.Array:
  """The inner objective L_i(theta), a scalar.

  Args:
    policy: must have a density.
    params: theta.
    trajectory: T_i, `[T, N, ...]`.
    advantages: A_i, `[T, N]`.
    objective: `log_likelihood`, the mean of log pi * A, or `likelihood_ratio`,
      the mean of pi / pi_old * A with the log-probabilities of pi_old that are
      stored in the trajectory. Their gradients are equal at the policy that
      sampled the trajectory; their Hessians are not.

  Raises:
    ValueError: if the objective is unknown.
  """
  if objective not in _INNER_OBJECTIVES:
    raise ValueError(
      f'objective={objective!r}: must be one of {", ".join(_INNER_OBJECTIVES)}'
    )
  dist = policy_gradient.over(policy, params, trajectory)
  return _INNER_OBJECTIVES[objective](dist, trajectory, advantages)


def adapt(
  policy: base.Policy,
  params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
) -> types.Params:
  """theta_i' = theta + alpha grad L_i(theta), for one task.

  Args:
    policy: must have a density.
    params: theta.
    trajectory: T_i, `[T, N, ...]`, rollouts of theta.
    advantages: A_i, `[T, N]`.
    inner_lr: alpha.
    objective: see `inner_objective`.

  Returns:
    theta_i', differentiable in theta.
  """
  chex.assert_rank([trajectory.obs, trajectory.action], 3)
  chex.assert_equal_shape([trajectory.mask, trajectory.log_prob, advantages])

  def inner(params: types.Params) -> jax.Array:
    return inner_objective(
      policy, params, trajectory, advantages, objective=objective
    )

  gradient = jax.grad(inner)(params)
  return jax.tree.map(lambda p, g: p + inner_lr * g, params, gradient)


def meta_objective(
  policy: base.Policy,
  batch: MetaBatch,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
  entropy_coef: jax.Array | float = 0.0,
) -> Callable[[types.Params], tuple[jax.Array, jax.Array]]:
  """The outer objective of `batch` and its trust region, as a function.

  Args:
    policy: must have a density.
    batch: the rollouts and advantages, sampled at theta.
    inner_lr: alpha.
    objective: of the inner step, see `inner_objective`.
    entropy_coef: weight of the adapted policies' mean entropy (section A.2).

  Returns:
    A function theta -> (surrogate, kl), an input of `trpo.trpo_step`.
  """
  batch = mask_unusable(batch)

  def surrogate_and_kl(params: types.Params) -> tuple[jax.Array, jax.Array]:
    def task(task: MetaBatch) -> tuple[jax.Array, jax.Array]:
      adapted = adapt(
        policy,
        params,
        task.pre,
        task.pre_advantages,
        inner_lr=inner_lr,
        objective=objective,
      )
      return policy_gradient.surrogate_and_kl(
        policy,
        task.adapted,
        task.post,
        task.post_advantages,
        entropy_coef=entropy_coef,
      )(adapted)

    gain, kl = tasks.map_tasks(task, batch)
    return tasks.mean(gain, batch.weight), tasks.mean(kl, batch.weight)

  return surrogate_and_kl


def mask_unusable(batch: MetaBatch) -> MetaBatch:
  """Masks all steps of tasks with weight 0, and zeroes their parameters.

  Otherwise a value of such a task that is not finite would reach the gradient
  as 0 * NaN.
  """
  chex.assert_rank(batch.weight, 2)

  def usable(x: jax.Array) -> jax.Array:
    weight = broadcasting.trailing(batch.weight, x.ndim)
    return jnp.where(weight > 0, x, 0.0)

  return batch._replace(
    pre=batch.pre._replace(mask=usable(batch.pre.mask)),
    post=batch.post._replace(mask=usable(batch.post.mask)),
    adapted=jax.tree.map(usable, batch.adapted),
  )
