"""Environments of a task family: one task held, or a task for every episode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base
from mbmpo_jax.envs import families
from mbmpo_jax.envs import of_family


class TaskedState(NamedTuple):
  """The state of a `Tasked` environment.

  Attributes:
    state: of the world inside.
    tasks: of this episode in their order, leaves [S, ...].
    prepared: what the family prepared of each, leaves [S, ...].
    time: int32 [], steps since the reset.
  """

  state: Any
  tasks: families.Task
  prepared: Any
  time: jax.Array


class Fixed(of_family.OfFamily):
  """One task, which may be traced, for all episodes: see `fixed`.

  The state is that of the task's world.

  Attributes:
    task: it.
    world: its world.
  """

  def __init__(
    self, family: families.Family, task: families.Task, *, tell_task: bool
  ) -> None:
    """Prepares the task."""
    super().__init__(family, tell_task=tell_task)
    self.task = task
    self.world = family.world(task, family.prepare(task))
    self.reward_is_known = self.done_is_known = True

  def initial_state(self, rng: jax.Array) -> Any:
    """Draws a state of the task's world; consumes `rng`."""
    return self.world.initial_state(rng)

  def advance(self, pipeline_state: Any, action: jax.Array) -> Any:
    """One step in the task's world."""
    return self.world.advance(pipeline_state, action)

  def observe(self, pipeline_state: Any) -> jax.Array:
    """What is seen in the task's world, and the task where it is told."""
    return self._telling(self.world.observe(pipeline_state), self.task)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """The reward of the task."""
    return self.world.reward(self._body(obs), action, self._body(next_obs))

  def done(self, next_obs: jax.Array) -> jax.Array:
    """The termination of the task."""
    return self.world.done(self._body(next_obs))

  def pose(self, pipeline_state: Any) -> base.Pose:
    """That of the task's world."""
    return self.world.pose(pipeline_state)


class Tasked(of_family.OfFamily):
  """An environment with a task of its own in every instance and episode.

  Attributes:
    split: which tasks are drawn, `train` or `test`.
    schedule: `episode` holds a task for the whole of an episode, `switch`
      changes it within.
    switch_period: steps after which it does: step t, from 0, is under the task
      number t // switch_period of the episode, and its observation tells that
      task.
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
      family: the tasks and their worlds.
      split: which tasks are drawn.
      schedule: when; by default as the family has it.
      switch_period: in steps; by default the family's.
      tell_task: whether the observation ends with the task.

    Raises:
      families.TaskError: naming what is not allowed.
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
        f'switch_period={switch_period!r}: must be an int >= 1, steps'
      )

  @property
  def tasks_per_episode(self) -> int:
    """S."""
    if self.schedule == 'episode':
      return 1
    return -(-self.max_episode_steps // self.switch_period)

  def initial_state(self, rng: jax.Array) -> TaskedState:
    """Draws the episode's tasks, and a state of the first; consumes `rng`."""
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
    """The task under which the next step from here is."""
    return families.at(pipeline_state.tasks, self._place(pipeline_state))

  def advance(
    self, pipeline_state: TaskedState, action: jax.Array
  ) -> TaskedState:
    """One step under the task of now."""
    world = self._world(pipeline_state)
    return pipeline_state._replace(
      state=world.advance(pipeline_state.state, action),
      time=pipeline_state.time + 1,
    )

  def observe(self, pipeline_state: TaskedState) -> jax.Array:
    """What is seen in the world of now, and its task where it is told."""
    obs = self._world(pipeline_state).observe(pipeline_state.state)
    return self._telling(obs, self.task(pipeline_state))

  def step(self, state: base.State, action: jax.Array) -> base.State:
    """One step, paid by the task under which it began.

    Whether it ends the episode is up to the task that its end tells.
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
    """That of the world inside."""
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
  """The environment of one task.

  The task may be traced: inside a compiled program, an algorithm holds one for
  several episodes, or maps over several:

    def collect(task, key):
      return real.rollout(envs.fixed(family, task), policy, params, key, ...)

    trajectories = jax.vmap(collect)(tasks, keys)

  Args:
    family: of the task.
    task: it.
    tell_task: whether the observation ends with the task.
  """
  return Fixed(family, task, tell_task=tell_task)


def _joined(first: jax.Array, later: jax.Array) -> jax.Array:
  return jnp.concatenate([first, later])
