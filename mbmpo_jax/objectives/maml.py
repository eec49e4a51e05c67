"""Meta-learning by adaptation: the inner step and the outer objective.

One inner step of vanilla policy gradient per task i (Clavera et al. 2018, eq.
3; Finn et al. 2017), on rollouts T_i of theta with advantages A_i,

  theta_i' = theta + alpha grad L_i(theta),
  L_i(theta) = mean over T_i of log pi_theta(a|s) A_i,

and an outer objective on rollouts T_i' of theta_i' with advantages A_i', all
means over tasks weighted by w_i (`tasks.weights`, 0 for a rejected task),

  surrogate(theta) = mean_i mean_T_i' pi_{theta_i'(theta)}(a|s) / pi_i(a|s) A_i'
  kl(theta)        = mean_i mean_T_i' KL(pi_i || pi_{theta_i'(theta)}),

where pi_i is the policy that sampled T_i', held fixed. How T_i itself depends
on theta is not differentiated, as in the authors' code.

Their derivatives at theta are in `meta_gradient`.

Where the tasks are shared out over devices, every mean over tasks is a device's
share of it: the sum over its own tasks, by weights that sum to 1 over all.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax import tasks
from mbmpo_jax.policies import gaussian

PolicyApply = Callable[..., gaussian.Gaussian]


class MetaBatch(NamedTuple):
  """What one outer step learns from; every leaf leads with tasks [K, P]."""

  pre: types.Trajectory  # T_i
  pre_advantages: jax.Array  # A_i, [K, P, T, N]
  adapted: types.Params  # theta_i' at the current theta
  post: types.Trajectory  # T_i'
  post_advantages: jax.Array  # A_i', [K, P, T, N]
  weight: jax.Array  # w_i, [K, P], from `tasks.weights`


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
  live = masking.live_steps(trajectory)
  log_prob = gaussian.log_prob(
    policy_apply(policy_params, live.obs), live.action
  )
  return inner_gain(
    log_prob,
    trajectory.log_prob,
    advantages,
    trajectory.mask,
    objective=objective,
  )


def inner_gain(
  log_prob: jax.Array,
  old_log_prob: jax.Array,
  advantages: jax.Array,
  mask: jax.Array,
  *,
  objective: str,
) -> jax.Array:
  """L_i by the log-probabilities of the actions of T_i, all `[...]`.

  Args:
    log_prob: of theta, finite at masked steps too.
    old_log_prob: of the policy that took them.
    advantages: A_i.
    mask: 1 for live steps.
    objective: as in `inner_objective`.
  """
  if objective == 'likelihood_ratio':
    likelihood = jnp.exp(log_prob - masking.live(old_log_prob, mask))
  elif objective == 'log_likelihood':
    likelihood = log_prob
  else:
    raise ValueError(
      f'objective={objective!r}: must be one of log_likelihood,'
      ' likelihood_ratio'
    )
  return masking.mean(likelihood * masking.live(advantages, mask), mask)


def outer_gain(
  log_prob: jax.Array,
  old_log_prob: jax.Array,
  advantages: jax.Array,
  mask: jax.Array,
) -> jax.Array:
  """Task i's part of the surrogate, without the entropy; all `[...]`, of T_i'.

  Args:
    log_prob: of theta_i', finite at masked steps too.
    old_log_prob: of pi_i.
    advantages: A_i'.
    mask: 1 for live steps.
  """
  log_ratio = log_prob - masking.live(old_log_prob, mask)
  return masking.mean(jnp.exp(log_ratio) * masking.live(advantages, mask), mask)


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


def meta_objective(
  batch: MetaBatch,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
  entropy_coef: jax.Array | float = 0.0,
  policy_apply: PolicyApply = gaussian.apply,
) -> Callable[[types.Params], tuple[jax.Array, jax.Array]]:
  """The outer objective of `batch` and its trust region.

  Args:
    batch: sampled at theta.
    inner_lr: alpha.
    objective: of the inner step.
    entropy_coef: weight of the adapted policies' mean entropy (section A.2).
    policy_apply: `(params, obs) -> distribution`.

  Returns:
    theta -> (surrogate, kl), as `trpo.trpo_step` takes it.
  """
  batch = mask_weightless(batch)

  def surrogate_and_kl(params: types.Params) -> tuple[jax.Array, jax.Array]:
    def task(task: MetaBatch) -> tuple[jax.Array, jax.Array]:
      adapted = adapt(
        params,
        task.pre,
        task.pre_advantages,
        inner_lr=inner_lr,
        objective=objective,
        policy_apply=policy_apply,
      )
      live = masking.live_steps(task.post)
      old, new = (policy_apply(p, live.obs) for p in (task.adapted, adapted))
      log_prob = gaussian.log_prob(new, live.action)
      gain = outer_gain(
        log_prob, task.post.log_prob, task.post_advantages, task.post.mask
      )
      return (
        gain + entropy_coef * gaussian.entropy(new),
        masking.mean(gaussian.kl(old, new), task.post.mask),
      )

    gain, kl = tasks.map_tasks(task, batch)
    return (
      tasks.mean(gain, batch.weight),
      tasks.mean(kl, batch.weight),
    )

  return surrogate_and_kl


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
