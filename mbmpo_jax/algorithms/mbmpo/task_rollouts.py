"""Imagination and adaptation of every task; all that is a task's leads [K, P].

Task (k, p) is the p-th of the P tasks that share ensemble member k; it has its
own rollouts, advantages and adapted policy.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import config as config_lib
from mbmpo_jax import masking
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.envs import base
from mbmpo_jax.models import ensemble
from mbmpo_jax.optim.tanh_gaussian import adaptation
from mbmpo_jax.objectives import maml
from mbmpo_jax.objectives import returns
from mbmpo_jax.optim.tanh_gaussian import samples
from mbmpo_jax import tasks
from mbmpo_jax.optim.tanh_gaussian import network
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import imagined


class Imagined(NamedTuple):
  """Rollouts of every task, all masked where they are not finite."""

  trajectory: types.Trajectory  # [K, P, T, N, ...]
  advantages: jax.Array  # [K, P, T, N], 0 where the task is rejected
  rollouts_finite: jax.Array  # bool [K, P]
  finite: jax.Array  # bool [K, P], and advantages; otherwise it is rejected


def rollout_tasks(
  policies: types.Params,
  model: ensemble.Model,
  hyper: state_lib.Hyper,
  key: jax.Array,
  *,
  env: base.Environment,
  config: config_lib.Config,
  policy_apply: maml.PolicyApply,
  policy_per_task: bool,
  mesh: jax.sharding.Mesh | None = None,
) -> Imagined:
  """Imagines rollouts of every task on its member, and their advantages.

  Args:
    policies: theta for all tasks, or theta_i' leading [K, P].
    model: the members, leading [K].
    hyper: discount, gae_lambda and baseline_ridge are used.
    key: consumed.
    env: gives reward, termination and initial observations.
    config: gives the numbers of tasks, rollouts and steps.
    policy_apply: `(params, obs) -> distribution`.
    policy_per_task: whether `policies` has one per task.
    mesh: of the devices among which the tasks are shared out; [K, P] is then
      this device's share of them. No task's rollouts depend on its device.
  """
  predict = functools.partial(
    ensemble.predict,
    model_input=env.model_input,
    precision=config.model.precision,
  )

  def task(
    policy: types.Params, model: ensemble.Model, key: jax.Array
  ) -> tuple[types.Trajectory, jax.Array]:
    initial_key, rollout_key = jax.random.split(key)
    num_rollouts = config.imagine.rollouts_per_task
    initial_obs = jax.vmap(env.initial_obs)(
      jax.random.split(initial_key, num_rollouts)
    )
    restart_obs = None
    if config.imagine.restart and env.can_terminate:
      rollout_key, restart_key = jax.random.split(rollout_key)
      restart_obs = jax.vmap(jax.vmap(env.initial_obs))(
        jax.random.split(restart_key, (config.imagine.horizon, num_rollouts))
      )
    trajectory = imagined.rollout_model(
      policy,
      model,
      rollout_key,
      initial_obs,
      env.reward,
      env.done,
      horizon=config.imagine.horizon,
      policy_apply=policy_apply,
      predict=predict,
      restart_obs=restart_obs,
    )
    return masking.reject_non_finite(trajectory)

  policy_axis = 0 if policy_per_task else None
  keys = jax.random.split(
    key, (config.model.num_models, config.imagine.tasks_per_model)
  )
  keys = parallel.own(mesh, keys, parallel.BY_TASK)
  # A bias for every rollout; weights stay one per policy.
  layers = network.spread(
    policies['layers'], (*keys.shape[:2], config.imagine.rollouts_per_task)
  )
  axes = {
    **dict.fromkeys(policies, policy_axis),
    'layers': [{'w': policy_axis, 'b': 0}] * len(layers),
  }
  over_member = jax.vmap(task, (axes, None, 0))
  trajectory, rollouts_finite = jax.vmap(over_member, (axes, 0, 0))(
    {**policies, 'layers': layers}, model, keys
  )
  advantages = tasks.map_tasks(
    functools.partial(
      returns.advantages,
      discount=hyper.discount,
      gae_lambda=hyper.gae_lambda,
      ridge=hyper.baseline_ridge,
    ),
    trajectory,
  )
  finite = rollouts_finite & tasks.over_tasks(masking.all_finite)(advantages)
  kept = broadcasting.trailing(finite, advantages.ndim)
  # Not the mask: rollouts do not wait for advantages.
  advantages = jnp.where(kept, advantages, 0.0)
  return Imagined(trajectory, advantages, rollouts_finite, finite)


def adapt_tasks(
  policy: types.Params,
  imagined: Imagined,
  hyper: state_lib.Hyper,
  *,
  config: config_lib.Config,
  head: samples.Head,
) -> tuple[types.Params, adaptation.Adaptation, jax.Array]:
  """Adapts theta to every task.

  Args:
    policy: theta.
    imagined: T_i and A_i, rollouts of theta.
    hyper: inner_lr is used.
    config: gives the inner objective.
    head: `(mean, log_std) -> distribution`, whose mean is `mean`.

  Returns:
    theta_i', leading [K, P]; what it came from; and whether each task is sound,
    bool `[K, P]`: theta_i' is theta where it is not.
  """

  def task(
    trajectory: types.Trajectory, advantages: jax.Array
  ) -> tuple[types.Params, adaptation.Adaptation]:
    return adaptation.adapt(
      policy,
      samples.of(trajectory, advantages),
      inner_lr=hyper.inner_lr,
      objective=config.meta.inner_objective,
      head=head,
    )

  adapted, adaptations = tasks.map_tasks(
    task, imagined.trajectory, imagined.advantages
  )
  finite = imagined.finite & tasks.over_tasks(masking.all_finite)(adapted)
  adapted = jax.tree.map(
    lambda new, old: jnp.where(
      broadcasting.trailing(finite, new.ndim),
      new,
      broadcasting.leading(old, new.ndim),
    ),
    adapted,
    policy,
  )
  return adapted, adaptations, finite


def episode_means(
  imagined: Imagined, weight: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean undiscounted return and length of the imagined episodes.

  Args:
    imagined: leading [K, P].
    weight: of the tasks, `tasks.weights`.

  Returns:
    Two scalars, 0 if no task has weight.
  """
  trajectory = imagined.trajectory

  def over_episodes(x: jax.Array) -> jax.Array:
    per_task = tasks.over_tasks(episodes.mean)(x, trajectory.terminated)
    return tasks.mean(per_task, weight)

  live = tasks.over_tasks(masking.live)(trajectory.reward, trajectory.mask)
  return over_episodes(live), over_episodes(trajectory.mask)


def clipped_steps(imagined: Imagined, model: ensemble.Model) -> jax.Array:
  """How many live steps have a prediction on a bound of the model."""
  trajectory = imagined.trajectory
  low, high = (x[:, None, None, None] for x in (model.low, model.high))
  on_bound = (trajectory.next_obs <= low) | (trajectory.next_obs >= high)
  clipped = jnp.any(on_bound, -1).astype(trajectory.mask.dtype)
  return jnp.sum(masking.live(clipped, trajectory.mask))
