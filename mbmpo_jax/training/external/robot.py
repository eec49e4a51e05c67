"""Real steps by a function that runs one episode, as on a robot."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import types
from mbmpo_jax.training.external import acting
from mbmpo_jax.training.external import task


class Episode(NamedTuple):
  """Arrays of an episode of L steps."""

  obs: Any  # [L + 1, O], from the first to the last
  action: Any  # [L, A], actions taken, within [-1, 1] or one-hot
  reward: Any  # [L]
  terminated: bool = False  # whether the last observation ended it


class Robot(NamedTuple):
  """Describes a robot to `external.train`, instead of a Gymnasium environment.

  Attributes:
    collect: `(act, max_steps) -> Episode`: runs one episode of at most
      `max_steps` steps. `act(obs [O])` returns the action [A]; for policies
      that observe rewards, call `act(obs, reward)` with the last reward.
    observation_size: O.
    action_size: A.
    max_episode_steps: the time limit in steps.
    discrete: whether actions are choices, as one-hot vectors.
    name: for titles.
    dt: seconds per step.
  """

  collect: Callable[[Callable[..., np.ndarray], int], Episode]
  observation_size: int
  action_size: int
  max_episode_steps: int
  discrete: bool = False
  name: str = 'robot'
  dt: float = 1.0


class Episodes:
  """An environment that runs one episode at a time.

  Attributes:
    sizes: sizes of the environment.
  """

  def __init__(self, robot: Robot) -> None:
    """Runs nothing yet."""
    self._collect = robot.collect
    self.sizes = task.Sizes(
      name=robot.name,
      observation_size=robot.observation_size,
      action_size=robot.action_size,
      discrete=robot.discrete,
      max_episode_steps=robot.max_episode_steps,
      dt=robot.dt,
    )

  def collect(
    self,
    behaviour: task.Behaviour,
    *,
    num: int,
    horizon: int,
    seed: list[int],
  ) -> types.Trajectory:
    """Takes `horizon` steps with each of `num` policies; see `task.World`."""
    del seed
    lanes = []
    for index, key in enumerate(jax.random.split(behaviour.key, num)):
      own = behaviour._replace(key=key, per_env=False)
      if behaviour.per_env and not behaviour.random:
        own = own._replace(
          params=jax.tree.map(lambda x, i=index: x[i], behaviour.params)
        )
      lanes.append(self._lane(own, horizon))
    return jax.tree.map(lambda *x: np.concatenate(x, 1), *lanes)

  def play(
    self,
    behaviour: task.Behaviour,
    *,
    num: int,
    horizon: int,
    seed: list[int],
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the returns and lengths [N] of episodes; see `task.World`."""
    del seed
    episodes = [
      self._episode(behaviour._replace(key=key), horizon)
      for key in jax.random.split(behaviour.key, num)
    ]
    rewards = [np.asarray(episode.reward) for episode in episodes]
    return (
      np.array([x.sum() for x in rewards]),
      np.array([len(x) for x in rewards]),
    )

  def close(self) -> None:
    """Does nothing."""

  def _lane(self, behaviour: task.Behaviour, horizon: int) -> types.Trajectory:
    rows: list[dict[str, Any]] = []
    while len(rows) < horizon:
      key = jax.random.fold_in(behaviour.key, len(rows))
      left = horizon - len(rows)
      episode = self._episode(behaviour._replace(key=key), left)
      rows += _rows(episode)[:left]
    return task.trajectory(rows)

  def _episode(self, behaviour: task.Behaviour, max_steps: int) -> Episode:
    float_type = jnp.zeros(()).dtype
    actor = acting.Acting(behaviour, self.sizes.action_space, 1)
    before: list[np.ndarray] = []

    def act(obs: Any, reward: float = 0.0) -> np.ndarray:
      obs = np.asarray(obs).reshape(1, -1).astype(float_type)
      if before:
        last_obs, last_action = before
        zero = np.zeros(1, float_type)
        actor.tell(last_obs, last_action, zero + reward, obs, zero, zero)
      _, action = actor.act(obs)
      before[:] = [obs, action]
      return action[0]

    episode = self._collect(act, max_steps)
    return self._checked(
      Episode(
        np.asarray(episode.obs).astype(float_type),
        np.asarray(episode.action).astype(float_type),
        np.asarray(episode.reward).astype(float_type),
        bool(episode.terminated),
      )
    )

  def _checked(self, episode: Episode) -> Episode:
    steps = len(episode.reward)
    sizes = self.sizes
    expected = dict(
      obs=(steps + 1, sizes.observation_size),
      action=(steps, sizes.action_size),
      reward=(steps,),
    )
    for name, shape in expected.items():
      found = getattr(episode, name).shape
      if found != shape or not steps:
        raise task.WorldError(
          f'{sizes.name}: {name} of an episode of {steps} steps has shape'
          f' {list(found)}: must be {list(shape)}, of at least one step'
        )
    try:
      sizes.action_space.check(episode.action)
    except ValueError as error:
      raise task.WorldError(f'{sizes.name}: {error}') from error
    return episode


def _rows(episode: Episode) -> list[dict[str, Any]]:
  steps = len(episode.reward)
  zero = np.zeros(1, episode.reward.dtype)
  rows = []
  for step in range(steps):
    last = step + 1 == steps
    terminated = zero + (last and episode.terminated)
    rows.append(
      dict(
        obs=episode.obs[step][None],
        action=episode.action[step][None],
        env_action=episode.action[step][None],
        reward=episode.reward[step][None],
        next_obs=episode.obs[step + 1][None],
        terminated=terminated,
        truncated=zero + (last and not episode.terminated),
      )
    )
  return rows
