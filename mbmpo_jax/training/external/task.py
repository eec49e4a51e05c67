"""What is known of a world that is not JAX, and what moves it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import base as policies


class WorldError(errors.UserError, ValueError):
  """A world cannot be used as it is; one line says why, and the way out."""


class Task(NamedTuple):
  """What a method that imagines needs to know, as far as anybody can say.

  Functions are JAX's and take any leading batch shape. Actions are what the
  policy gives: within [-1, 1] in every dimension, or a one-hot vector.

  Attributes:
    reward: `(obs, action, next_obs) -> [...]`, or `PREDICTED`: the models learn
      what the world pays.
    done: `next_obs -> [...]`, 1. where it ends the episode; `PREDICTED`; or
      `None`, where nothing but a time limit does.
    model_input: what the models see of an observation; all of it, by default.
    initial_obs: key -> an observation at the start of an imagined episode; by
      default these start as real ones did.
    project: the observation nearest to a prediction, where not all numbers are
      observations (`Environment.project`).
  """

  reward: types.RewardFn | str = elsewhere.PREDICTED
  done: types.DoneFn | str | None = elsewhere.PREDICTED
  model_input: Callable[[jax.Array], jax.Array] | None = None
  initial_obs: Callable[[jax.Array], jax.Array] | None = None
  project: Callable[[jax.Array], jax.Array] | None = None


class Sizes(NamedTuple):
  """What a run's folder keeps of a world.

  Attributes:
    name: for titles.
    observation_size: O.
    action_size: A.
    discrete: whether actions are choices.
    max_episode_steps: the world's own time limit.
    dt: seconds per step.
  """

  name: str
  observation_size: int
  action_size: int
  discrete: bool
  max_episode_steps: int
  dt: float = 1.0

  @property
  def action_space(self) -> spaces.ActionSpace:
    """What the policy's actions may be."""
    kind = spaces.Discrete if self.discrete else spaces.Box
    return kind(self.action_size)


class Behaviour(NamedTuple):
  """Who acts.

  Attributes:
    policy: how.
    params: of the policy; with `per_env`, leading [N].
    key: for its noise; consumed.
    per_env: whether there is one policy per environment.
    random: whether actions are uniform instead.
    greedy: whether there is no noise.
  """

  policy: policies.Policy
  params: types.Params
  key: jax.Array
  per_env: bool = False
  random: bool = False
  greedy: bool = False


class World(Protocol):
  """What moves, outside of JAX."""

  sizes: Sizes

  def collect(
    self, behaviour: Behaviour, *, num: int, horizon: int, seed: list[int]
  ) -> types.Trajectory:
    """Steps `num` environments `horizon` times, as `rollouts.real.rollout`.

    The last episode of each is cut, and marked so.
    """
    ...

  def play(
    self, behaviour: Behaviour, *, num: int, horizon: int, seed: list[int]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths [N] of fresh episodes, each cut at `horizon`."""
    ...

  def close(self) -> None:
    """Gives back what it holds."""
    ...


def environment(sizes: Sizes, task: Task) -> elsewhere.Elsewhere:
  """The world as an algorithm sees it."""
  try:
    env = elsewhere.Elsewhere(
      observation_size=sizes.observation_size,
      action_space=sizes.action_space,
      max_episode_steps=sizes.max_episode_steps,
      dt=sizes.dt,
      **task._asdict(),
    )
  except ValueError as error:
    raise WorldError(f'task: {error}') from error
  _check_shapes(env)
  return env


def _check_shapes(env: elsewhere.Elsewhere) -> None:
  """Traces what the task gives, single and batched."""
  for batch in ((), (2, 3)):
    obs, action = (
      jax.ShapeDtypeStruct((*batch, size), jnp.zeros(()).dtype)
      for size in (env.observation_size, env.action_size)
    )
    traced: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
    if env.reward_is_known:
      traced.append(('reward', env.reward, (obs, action, obs)))
    if env.done_is_known:
      traced.append(('done', env.done, (obs,)))
    for name, function, arguments in traced:
      try:
        found = jax.eval_shape(function, *arguments)
      except Exception as error:  # It is the user's: anything may be raised.
        raise WorldError(
          f'task.{name}: cannot be traced by JAX for observations of shape'
          f' {list(obs.shape)}: {" ".join(str(error).split())}'
        ) from error
      if getattr(found, 'shape', None) != batch or found.dtype != obs.dtype:
        raise WorldError(
          f'task.{name}: gives {found} for observations of shape'
          f' {list(obs.shape)}: must give {obs.dtype}{list(batch)}'
        )


def trajectory(rows: list[dict[str, Any]]) -> types.Trajectory:
  """Steps of N environments, arrays [N, ...] by field, as a trajectory.

  Episodes that have not ended are cut.
  """
  stacked: Any = {
    name: np.stack([row[name] for row in rows]) for name in rows[0]
  }
  ended = stacked['terminated'] + stacked['truncated']
  stacked['truncated'][-1] = np.where(
    ended[-1] > 0, stacked['truncated'][-1], 1.0
  )
  nothing = np.zeros_like(stacked['reward'])
  return types.Trajectory(**stacked | dict(log_prob=nothing, mask=nothing + 1))
