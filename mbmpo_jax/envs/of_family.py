"""Base class of the environments of a task family.

The task is hidden unless `tell_task` is set, which appends the task's numbers
to the observation. `reward` and `done` can be computed from observations if
they are the same for all tasks or if the task is in the observation. Otherwise
they raise an error, because an imagined rollout does not have the hidden task.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco

from mbmpo_jax.envs import base
from mbmpo_jax.envs import families
from mbmpo_jax.envs import spaces


class OfFamily(base.Environment):
  """Base class of the environments of a task family.

  Attributes:
    family: draws tasks and builds their environments.
    tell_task: whether the observation ends with the task's `vector`.
  """

  def __init__(self, family: families.Family, *, tell_task: bool) -> None:
    """Copies sizes, limits and spaces from the nominal environment."""
    self.family = family
    self.tell_task = tell_task
    nominal = family.nominal
    self.max_episode_steps = nominal.max_episode_steps
    self.dt = nominal.dt
    self.can_terminate = nominal.can_terminate
    self.reward_is_known = tell_task or not family.rewards_by_task
    self.done_is_known = tell_task or not family.ends_by_task

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns rewards [...] for the task in `obs`, or common to all tasks.

    Raises:
      families.TaskError: if the reward depends on a hidden task.
    """
    if not self.reward_is_known:
      raise self._hidden('reward')
    body, next_body = self._body(obs), self._body(next_obs)
    if not self.family.rewards_by_task:
      return self.family.nominal.reward(body, action, next_body)

    def one(
      told: jax.Array, body: jax.Array, action: jax.Array, next_body: jax.Array
    ) -> jax.Array:
      return self._told(told).reward(body, action, next_body)

    return _batched(one, self._tail(obs), body, action, next_body)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns 1. where `next_obs` [..., O] ends the episode, [...].

    Uses the task in `next_obs` if terminations depend on the task.

    Raises:
      families.TaskError: if the termination depends on a hidden task.
    """
    if not self.done_is_known:
      raise self._hidden('done')
    body = self._body(next_obs)
    if not self.family.ends_by_task:
      return self.family.nominal.done(body)

    def one(told: jax.Array, body: jax.Array) -> jax.Array:
      return self._told(told).done(body)

    return _batched(one, self._tail(next_obs), body)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """The nominal environment's model input, and the task if it is observed."""
    seen = self.family.nominal.model_input(self._body(obs))
    if not self.tell_task:
      return seen
    return jnp.concatenate([seen, self._tail(obs)], -1)

  def change(self, obs: jax.Array, next_obs: jax.Array) -> jax.Array:
    """The nominal environment's change; the difference for an observed task."""
    nominal = self.family.nominal
    if not self.tell_task:
      return nominal.change(obs, next_obs)
    body = nominal.change(self._body(obs), self._body(next_obs))
    return jnp.concatenate([body, self._tail(next_obs) - self._tail(obs)], -1)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """The nominal environment's projection; keeps an observed task."""
    nominal = self.family.nominal
    if not self.tell_task:
      return nominal.project(next_obs)
    body = nominal.project(self._body(next_obs))
    return jnp.concatenate([body, self._tail(next_obs)], -1)

  def scene(self) -> mujoco.MjModel | None:
    """The nominal environment's scene; it is the same for all tasks."""
    return self.family.nominal.scene()

  @property
  def observation_size(self) -> int:
    """The nominal environment's size, plus D if the task is observed."""
    told = self.family.task_size if self.tell_task else 0
    return self.family.nominal.observation_size + told

  @property
  def action_size(self) -> int:
    """The nominal environment's action size."""
    return self.family.nominal.action_size

  @property
  def action_space(self) -> spaces.ActionSpace:
    """The nominal environment's action space."""
    return self.family.nominal.action_space

  @property
  def backend(self) -> str:
    """The nominal environment's physics engine."""
    return self.family.nominal.backend

  def _telling(self, obs: jax.Array, task: families.Task) -> jax.Array:
    if not self.tell_task:
      return obs
    vector = self.family.vector(task).astype(obs.dtype)
    return jnp.concatenate([obs, vector])

  def _body(self, obs: jax.Array) -> jax.Array:
    return obs[..., : self.family.nominal.observation_size]

  def _tail(self, obs: jax.Array) -> jax.Array:
    return obs[..., self.family.nominal.observation_size :]

  def _told(self, vector: jax.Array) -> base.Environment:
    task = self.family.from_vector(vector)
    return self.family.world(task, self.family.prepare(task))

  def _hidden(self, part: str) -> families.TaskError:
    return families.TaskError(
      f'{type(self.family).__name__}.{part}: depends on the task, which'
      ' observations do not contain: must be predicted by a model, or'
      ' env.tell_task must be True'
    )


def family_of(env: base.Environment, needed_by: str) -> families.Family:
  """Returns the family of an environment, for an algorithm that needs one.

  Args:
    env: the environment of a configuration.
    needed_by: the algorithm's name, for the error message.

  Raises:
    families.TaskError: if the environment has no tasks.
  """
  if not isinstance(env, OfFamily):
    raise families.TaskError(
      f'env: {type(env).__name__} has no task parameters: must be a task family'
      f' for {needed_by}'
    )
  return env.family


def require_known(
  env: base.Environment,
  needed_by: str,
  *,
  predicted: Mapping[str, bool] | None = None,
  parts: Sequence[str] = ('reward', 'done'),
  may_tell: bool = True,
) -> None:
  """Checks that imagined rollouts can use the environment's own functions.

  Args:
    env: the environment of a configuration.
    needed_by: the algorithm's name, for the error message.
    predicted: whether models predict `reward` and `done`; `None` if the
      algorithm's models cannot predict them.
    parts: the functions that the imagined rollouts use.
    may_tell: whether the algorithm accepts `env.tell_task=True`.

  Raises:
    families.TaskError: if one of `parts` is neither a known function of
      observations nor predicted, for example because it depends on a hidden
      task.
  """
  for part in parts:
    if getattr(env, f'{part}_is_known') or (predicted and predicted[part]):
      continue
    way_out = '' if predicted is None else f', or model.predict_{part}=True,'
    if isinstance(env, OfFamily):
      needed = f'have env.tell_task=True{way_out}'
      if not may_tell:
        needed = (
          "be a family whose tasks share it, as 'cartpole_swingup_masses'"
        )
      raise families.TaskError(
        f'env: {part} depends on a hidden task: must {needed} for {needed_by},'
        ' which imagines with it'
      )
    raise families.TaskError(
      f'env: {part} is not a known function of observations: must be'
      f' given{way_out} for {needed_by}, which imagines with it'
    )


def _batched(function: Callable[..., jax.Array], *args: Any) -> jax.Array:
  """Maps `function` of single rows over all leading axes of `args`."""
  shape = args[0].shape[:-1]
  flat = [arg.reshape(-1, arg.shape[-1]) for arg in args]
  return jax.vmap(function)(*flat).reshape(shape)
