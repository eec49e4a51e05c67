"""Environments of a task family, with one fixed task or tasks per episode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base
from mbmpo_jax.envs import families
from mbmpo_jax.envs import of_family


class TaskedState(NamedTuple):
  """The state of a `Tasked` environment.

  Attributes:
    state: the state of the current task's environment.
    tasks: the episode's tasks in order, leaves [S, ...].
    prepared: the results of the family's `prepare`, leaves [S, ...].
    time: steps since the reset, int32 [].
  """

  state: Any
  tasks: families.Task
  prepared: Any
  time: jax.Array


class Fixed(of_family.OfFamily):
  """An environment with one task, which may be traced; see `fixed`.

  Its state is the state of the task's environment.

  Attributes:
    task: the task.
    world: the task's environment.
  """

  def __init__(
    self, family: families.Family, task: families.Task, *, tell_task: bool
  ) -> None:
    """Prepares the task and builds its environment."""
    super().__init__(family, tell_task=tell_task)
    self.task = task
    self.world = family.world(task, family.prepare(task))
    self.reward_is_known = self.done_is_known = True

  def initial_state(self, rng: jax.Array) -> Any:
    """Draws a state of the task's environment; consumes `rng`."""
    return self.world.initial_state(rng)

  def advance(self, pipeline_state: Any, action: jax.Array) -> Any:
    """Takes one step in the task's environment."""
    return self.world.advance(pipeline_state, action)

  def observe(self, pipeline_state: Any) -> jax.Array:
    """Returns the observation [O], which includes the task if `tell_task`."""
    return self._telling(self.world.observe(pipeline_state), self.task)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns the reward of the task, [...]."""
    return self.world.reward(self._body(obs), action, self._body(next_obs))

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns the termination of the task, [...]."""
    return self.world.done(self._body(next_obs))

  def pose(self, pipeline_state: Any) -> base.Pose:
    """Returns the pose in the task's environment."""
    return self.world.pose(pipeline_state)


class Tasked(of_family.OfFamily):
  """An environment that draws its tasks at every reset.

  Attributes:
    split: the set from which tasks are drawn, `train` or `test`.
    schedule: `episode` keeps one task for the whole episode, `switch` changes
      it within the episode.
    switch_period: steps between changes. Step t, counted from 0, has the
      episode's task number t // switch_period, and so has the observation
      before that step if `tell_task`.
  """

  def __init__(
    self,
    family: families.Family,
    *,
    split: str = 'train',
    schedule: str | None = None,
    switch_period: int | None = None,
    tell_task: bool = False,
  ) -> None:
    """Draws nothing yet.

    Args:
      family: draws tasks and builds their environments.
      split: the set from which tasks are drawn.
      schedule: when tasks change; by default the family's schedule.
      switch_period: steps between changes; by default the family's period.
      tell_task: whether the task is appended to the observation.

    Raises:
      families.TaskError: naming the argument that is not allowed.
    """
    super().__init__(family, tell_task=tell_task)
    self.split = split
    self.schedule = family.schedule if schedule is None else schedule
    self.switch_period = (
      family.switch_period if switch_period is None else switch_period
    )
    for name, value, allowed in (
      ('split', split, families.SPLITS),
      ('schedule', self.schedule, families.SCHEDULES),
    ):
      if value not in allowed:
        raise families.TaskError(
          f'{name}={value!r}: must be one of {", ".join(allowed)}'
        )
    if self.switch_period < 1:
      raise families.TaskError(
        f'switch_period={switch_period!r}: must be an int >= 1, in steps'
      )

  @property
  def tasks_per_episode(self) -> int:
    """The number S of tasks in an episode."""
    if self.schedule == 'episode':
      return 1
    return -(-self.max_episode_steps // self.switch_period)

  def initial_state(self, rng: jax.Array) -> TaskedState:
    """Draws the episode's tasks and a state of the first; consumes `rng`."""
    draw_rng, later_rng, state_rng = jax.random.split(rng, 3)
    first = self.family.sample_task(draw_rng, self.split)
    tasks = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], first)
    if self.tasks_per_episode > 1:
      keys = jax.random.split(later_rng, self.tasks_per_episode - 1)
      _, later = jax.lax.scan(self._follow, first, keys)
      tasks = jax.tree.map(_joined, tasks, later)
    prepared = jax.vmap(self.family.prepare)(tasks)
    world = self.family.world(first, families.at(prepared, 0))
    return TaskedState(
      world.initial_state(state_rng), tasks, prepared, jnp.zeros((), jnp.int32)
    )

  def task(self, pipeline_state: TaskedState) -> families.Task:
    """Returns the task of the next step."""
    return families.at(pipeline_state.tasks, self._place(pipeline_state))

  def advance(
    self, pipeline_state: TaskedState, action: jax.Array
  ) -> TaskedState:
    """Takes one step in the current task's environment."""
    world = self._world(pipeline_state)
    return pipeline_state._replace(
      state=world.advance(pipeline_state.state, action),
      time=pipeline_state.time + 1,
    )

  def observe(self, pipeline_state: TaskedState) -> jax.Array:
    """Returns the observation [O], which includes the task if `tell_task`."""
    obs = self._world(pipeline_state).observe(pipeline_state.state)
    return self._telling(obs, self.task(pipeline_state))

  def step(self, state: base.State, action: jax.Array) -> base.State:
    """Takes one step.

    The reward is that of the task before the step, the termination that of the
    task after it, which the next observation includes if `tell_task`.
    """
    action = self.action_space.project(action)
    world = self._world(state.pipeline_state)
    after = self.advance(state.pipeline_state, action)
    next_obs = self.observe(after)
    body = self._body(next_obs)
    return state.replace(
      pipeline_state=after,
      obs=next_obs,
      reward=world.reward(self._body(state.obs), action, body),
      done=self._world(after).done(body),
    )

  def pose(self, pipeline_state: TaskedState) -> base.Pose:
    """Returns the pose in the nominal environment."""
    return self.family.nominal.pose(pipeline_state.state)

  def _follow(self, task: families.Task, key: jax.Array) -> Any:
    task = self.family.next_task(key, task, self.split)
    return task, task

  def _place(self, pipeline_state: TaskedState) -> jax.Array:
    last = self.tasks_per_episode - 1
    return jnp.minimum(pipeline_state.time // self.switch_period, last)

  def _world(self, pipeline_state: TaskedState) -> base.Environment:
    place = self._place(pipeline_state)
    return self.family.world(
      families.at(pipeline_state.tasks, place),
      families.at(pipeline_state.prepared, place),
    )


def fixed(
  family: families.Family, task: families.Task, *, tell_task: bool = False
) -> Fixed:
  """Returns the environment of one task.

  The task may be traced. Within a compiled program, an algorithm can use one
  task for several episodes, or map over several tasks:

    def collect(task, key):
      return real.rollout(envs.fixed(family, task), policy, params, key, ...)

    trajectories = jax.vmap(collect)(tasks, keys)

  Args:
    family: the family of the task.
    task: the task.
    tell_task: whether the task is appended to the observation.
  """
  return Fixed(family, task, tell_task=tell_task)


def _joined(first: jax.Array, later: jax.Array) -> jax.Array:
  return jnp.concatenate([first, later])
