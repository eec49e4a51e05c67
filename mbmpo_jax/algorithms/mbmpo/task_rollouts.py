"""Rollouts and adaptation of all tasks, with leading task axes [K, P].

Task (k, p) is the p-th of the P tasks that share ensemble member k. It has its
own rollouts, advantages and adapted policy.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import masking
from mbmpo_jax import parallel
from mbmpo_jax import tasks
from mbmpo_jax import types
from mbmpo_jax.algorithms import base as algorithms
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.envs import base
from mbmpo_jax.models import base as models
from mbmpo_jax.models import starts
from mbmpo_jax.objectives import returns
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import imagined

# Keeps the key of buffer states apart from those that it is split into.
_SEEN = 0x7365656E


class TaskRollouts(NamedTuple):
  """Rollouts of all tasks; those that are not finite are masked.

  A task is usable if its rollouts and its advantages are finite.
  """

  trajectory: types.Trajectory  # [K, P, T, N, ...]
  advantages: jax.Array  # [K, P, T, N], 0 where the task is not usable
  usable_rollouts: jax.Array  # bool [K, P], finite rollouts
  usable: jax.Array  # bool [K, P], finite rollouts and advantages


def rollout_tasks(
  params: types.Params,
  model: Any,
  hyper: algorithms.Hyper,
  key: jax.Array,
  *,
  env: base.Environment,
  config: config_lib.Config,
  policy: policies.Policy,
  dynamics: models.Dynamics,
  per_task: bool,
  seen: jax.Array | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> TaskRollouts:
  """Imagines rollouts of every task in its member, and their advantages.

  Args:
    params: theta for all tasks, or theta_i' with leading axes [K, P].
    model: the members, leaves [K, ...].
    hyper: the settings of `advantage` are used.
    key: consumed.
    env: gives reward, termination and initial observations.
    config: gives the numbers of tasks, rollouts and steps.
    policy: chooses the actions.
    dynamics: the functions of one member's model.
    per_task: whether `params` has one policy per task.
    seen: `[S, O]`, states of real episodes. The first `model_rollouts.num_seen`
      rollouts of a task start there; after a restart they start like episodes
      of the environment. With `None`, all rollouts do.
    mesh: devices over which the tasks are distributed; [K, P] is then this
      device's part of them. Rollouts do not depend on the device.
  """
  section = config.model_rollouts
  num_rollouts = section.rollouts_per_task

  def task(params: types.Params, model: Any, key: jax.Array) -> Any:
    initial_key, rollout_key = jax.random.split(key)
    initial_obs = starts.draw(
      env, dynamics, model, initial_key, (num_rollouts,)
    )
    if seen is not None:
      initial_obs = starts.among_seen(
        initial_obs,
        seen,
        jax.random.fold_in(key, _SEEN),
        count=section.num_seen,
      )
    restart_obs = None
    if section.restart and env.can_terminate:
      rollout_key, restart_key = jax.random.split(rollout_key)
      restart_obs = starts.draw(
        env, dynamics, model, restart_key, (section.horizon, num_rollouts)
      )
    trajectory = imagined.rollout(
      policy,
      params,
      dynamics,
      model,
      rollout_key,
      initial_obs,
      horizon=section.horizon,
      reward_fn=env.reward,
      done_fn=env.done,
      restart_obs=restart_obs,
    )
    return masking.reject_non_finite(trajectory)

  keys = jax.random.split(
    key, (config.model.num_models, section.tasks_per_model)
  )
  keys = parallel.own(mesh, keys, parallel.BY_TASK)
  params, axes = policy.spread(
    params, (*keys.shape[:2], num_rollouts), per_task
  )
  over_member = jax.vmap(task, (axes, None, 0))
  trajectory, usable_rollouts = jax.vmap(over_member, (axes, 0, 0))(
    params, model, keys
  )
  advantages = tasks.map_tasks(
    functools.partial(
      returns.advantages,
      discount=hyper['advantage.discount'],
      gae_lambda=hyper['advantage.gae_lambda'],
      ridge=hyper['advantage.baseline_ridge'],
    ),
    trajectory,
  )
  usable = usable_rollouts & tasks.over_tasks(masking.all_finite)(advantages)
  kept = broadcasting.trailing(usable, advantages.ndim)
  # The mask is unchanged, because it only depends on the rollouts.
  advantages = jnp.where(kept, advantages, 0.0)
  return TaskRollouts(trajectory, advantages, usable_rollouts, usable)


def keep_usable(
  adapted: types.Params, theta: types.Params, usable: jax.Array
) -> tuple[types.Params, jax.Array]:
  """theta_i' for usable tasks, otherwise theta.

  Args:
    adapted: theta_i', with leading axes [K, P].
    theta: the policy before adaptation.
    usable: whether the task's rollouts and advantages are finite, bool [K, P].

  Returns:
    The policies, and whether each task is usable, including its adaptation.
  """
  usable = usable & tasks.over_tasks(masking.all_finite)(adapted)
  adapted = jax.tree.map(
    lambda new, old: jnp.where(
      broadcasting.trailing(usable, new.ndim),
      new,
      broadcasting.leading(old, new.ndim),
    ),
    adapted,
    theta,
  )
  return adapted, usable


def task_means(
  rollouts: TaskRollouts, *, num_seen: int = 0
) -> tuple[jax.Array, jax.Array]:
  """Mean undiscounted return and length of each task's imagined episodes.

  Args:
    rollouts: with leading axes [K, P].
    num_seen: number of first rollouts of a task that start in the middle of
      episodes. They are left out, unless all rollouts are such, because real
      episodes start at a reset.

  Returns:
    Two arrays [K, P].
  """
  trajectory = rollouts.trajectory
  if 0 < num_seen < trajectory.mask.shape[-1]:
    trajectory = trajectory._replace(
      reward=trajectory.reward[..., num_seen:],
      terminated=trajectory.terminated[..., num_seen:],
      mask=trajectory.mask[..., num_seen:],
    )
  over_episodes = tasks.over_tasks(episodes.mean)
  live = tasks.over_tasks(masking.live)(trajectory.reward, trajectory.mask)
  return (
    over_episodes(live, trajectory.terminated),
    over_episodes(trajectory.mask, trajectory.terminated),
  )


def episode_means(
  rollouts: TaskRollouts, weight: jax.Array, *, num_seen: int = 0
) -> tuple[jax.Array, jax.Array]:
  """Means of `task_means` over the tasks.

  Args:
    rollouts: with leading axes [K, P].
    weight: of the tasks, from `tasks.weights`.
    num_seen: see `task_means`.

  Returns:
    Two scalars, 0 if no task has weight.
  """
  returns, lengths = task_means(rollouts, num_seen=num_seen)
  return tasks.mean(returns, weight), tasks.mean(lengths, weight)


def clipped_steps(rollouts: TaskRollouts, model: Any) -> jax.Array:
  """The number of live steps with a prediction on a bound of the model."""
  trajectory = rollouts.trajectory
  low, high = (x[:, None, None, None] for x in (model.low, model.high))
  on_bound = (trajectory.next_obs <= low) | (trajectory.next_obs >= high)
  clipped = jnp.any(on_bound, -1).astype(trajectory.mask.dtype)
  return jnp.sum(masking.live(clipped, trajectory.mask))
