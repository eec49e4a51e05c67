"""The task of an environment outside JAX, and the interface that steps it."""

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
  """An environment cannot be used; one line gives the reason and what to do."""


class Task(NamedTuple):
  """What imagined rollouts need of an environment, as far as it is known.

  The functions are JAX functions and accept any leading batch shape. Actions
  are those of the policy: within [-1, 1] in every dimension, or one-hot.

  Attributes:
    reward: `(obs, action, next_obs) -> [...]`, or `PREDICTED`: the models learn
      the reward.
    done: `next_obs -> [...]`, 1. where the episode ends; `PREDICTED`; or `None`
      if only a time limit ends it.
    model_input: maps an observation to the models' input; by default the
      identity.
    initial_obs: maps a key to an observation at the start of an imagined
      episode; by default these start as real episodes did.
    project: maps a prediction to the nearest valid observation, if not every
      vector is one (`Environment.project`).
  """

  reward: types.RewardFn | str = elsewhere.PREDICTED
  done: types.DoneFn | str | None = elsewhere.PREDICTED
  model_input: Callable[[jax.Array], jax.Array] | None = None
  initial_obs: Callable[[jax.Array], jax.Array] | None = None
  project: Callable[[jax.Array], jax.Array] | None = None


class Sizes(NamedTuple):
  """The sizes of an environment, saved in the run's folder.

  Attributes:
    name: for titles.
    observation_size: O.
    action_size: A.
    discrete: whether actions are choices.
    max_episode_steps: the environment's time limit in steps.
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
    """The set of the policy's actions."""
    kind = spaces.Discrete if self.discrete else spaces.Box
    return kind(self.action_size)


class Behaviour(NamedTuple):
  """A policy with parameters and a key, ready to act.

  Attributes:
    policy: the policy.
    params: its parameters; with `per_env`, with a leading axis [N].
    key: for its noise; consumed.
    per_env: whether each environment has its own parameters.
    random: whether actions are drawn uniformly instead.
    greedy: whether to act without noise.
  """

  policy: policies.Policy
  params: types.Params
  key: jax.Array
  per_env: bool = False
  random: bool = False
  greedy: bool = False


class World(Protocol):
  """Interface of the real environment."""

  sizes: Sizes

  def collect(
    self, behaviour: Behaviour, *, num: int, horizon: int, seed: list[int]
  ) -> types.Trajectory:
    """Takes `horizon` steps in `num` environments, as `rollouts.real.rollout`.

    The last episode of each environment is truncated, and marked so.
    """
    ...

  def play(
    self, behaviour: Behaviour, *, num: int, horizon: int, seed: list[int]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the returns and lengths [N] of new episodes.

    Each is truncated after `horizon` steps.
    """
    ...

  def close(self) -> None:
    """Releases the resources."""
    ...


def environment(sizes: Sizes, task: Task) -> elsewhere.Elsewhere:
  """Returns the environment in the form that an algorithm uses."""
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
  """Traces the functions of the task, single and batched."""
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
      except Exception as error:  # The user's function may raise anything.
        raise WorldError(
          f'task.{name}: cannot be traced by JAX for observations of shape'
          f' {list(obs.shape)}: {" ".join(str(error).split())}'
        ) from error
      if getattr(found, 'shape', None) != batch or found.dtype != obs.dtype:
        raise WorldError(
          f'task.{name}: returns {found} for observations of shape'
          f' {list(obs.shape)}: must return {obs.dtype}{list(batch)}'
        )


def trajectory(rows: list[dict[str, Any]]) -> types.Trajectory:
  """Stacks the steps of N environments, [N, ...] by field, to a trajectory.

  Episodes that have not ended are marked as truncated.
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
