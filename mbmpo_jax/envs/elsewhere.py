"""An environment that is stepped outside JAX, by Gymnasium or by a robot.

Here it provides only what imagined rollouts need: the sizes, and the reward,
termination and initial observations if they are given as functions.
`training/external` steps the real environment.
"""

from collections.abc import Callable
from typing import Any

import jax

from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.envs import spaces

# Given in place of a function: the dynamics models predict it.
PREDICTED = 'predicted'


class ElsewhereError(errors.UserError, NotImplementedError):
  """A method was called that only the real environment provides."""


class Elsewhere(base.Environment):
  """The sizes and task functions of an environment, without physics."""

  observation_size = 0  # Set per instance.
  action_size = 0

  def __init__(
    self,
    *,
    observation_size: int,
    action_space: spaces.ActionSpace,
    max_episode_steps: int,
    dt: float = 1.0,
    reward: types.RewardFn | str = PREDICTED,
    done: types.DoneFn | str | None = PREDICTED,
    model_input: Callable[[jax.Array], jax.Array] | None = None,
    initial_obs: Callable[[jax.Array], jax.Array] | None = None,
    project: Callable[[jax.Array], jax.Array] | None = None,
  ) -> None:
    """Stores the sizes and functions, and calls none of them.

    Args:
      observation_size: O.
      action_space: `spaces.Box(A)`, actions within [-1, 1], or
        `spaces.Discrete(A)`, one-hot vectors.
      max_episode_steps: the time limit in steps.
      dt: seconds per step.
      reward: `(obs [..., O], action [..., A], next_obs [..., O]) -> [...]`, or
        `PREDICTED`.
      done: `next_obs [..., O] -> [...]`, 1. where the episode ends, or
        `PREDICTED`; `None` if only the time limit ends it.
      model_input: maps `obs [..., O]` to the input of a dynamics model.
      initial_obs: maps a key to an observation [O] at the start of an episode;
        without it, imagined rollouts start from the first observations of real
        episodes.
      project: maps a predicted observation `[..., O]` to the nearest valid one.

    Raises:
      ValueError: if `reward` or `done` is a string other than `PREDICTED`.
    """
    for name, given in (('reward', reward), ('done', done)):
      if isinstance(given, str) and given != PREDICTED:
        raise ValueError(
          f'{name}={given!r}: must be a function, or {PREDICTED!r}'
        )
    self.observation_size = observation_size
    self.action_size = action_space.size
    self.max_episode_steps = max_episode_steps
    self.dt = dt
    self.can_terminate = done is not None
    self.reward_is_known = not isinstance(reward, str)
    self.done_is_known = not isinstance(done, str)
    self.starts_are_known = initial_obs is not None
    self._action_space = action_space
    self._reward = reward
    self._done = done
    self._model_input = model_input
    self._initial_obs = initial_obs
    self._project = project

  def initial_state(self, rng: jax.Array) -> Any:
    """Raises `ElsewhereError`."""
    raise self._nowhere()

  def advance(self, pipeline_state: Any, action: jax.Array) -> Any:
    """Raises `ElsewhereError`."""
    raise self._nowhere()

  def observe(self, pipeline_state: Any) -> jax.Array:
    """Raises `ElsewhereError`."""
    raise self._nowhere()

  def step(self, state: base.State, action: jax.Array) -> base.State:
    """Raises `ElsewhereError`: only the real environment can take a step."""
    raise self._nowhere()

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns the given rewards [...].

    Raises:
      ElsewhereError: if the models predict the reward.
    """
    if isinstance(self._reward, str):
      raise ElsewhereError(
        'reward: must not be called, as the models predict it'
      )
    return self._reward(obs, action, next_obs)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns 1. where `next_obs` [..., O] ends the episode, as given.

    Raises:
      ElsewhereError: if the models predict the termination.
    """
    if isinstance(self._done, str):
      raise ElsewhereError('done: must not be called, as the models predict it')
    return (
      super().done(next_obs) if self._done is None else self._done(next_obs)
    )

  def model_input(self, obs: jax.Array) -> jax.Array:
    """Returns the dynamics model's input for `obs` [..., O]."""
    return obs if self._model_input is None else self._model_input(obs)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Applies the given `project` to a prediction [..., O]."""
    return next_obs if self._project is None else self._project(next_obs)

  def initial_obs(self, rng: jax.Array) -> jax.Array:
    """Draws the observation [O] at the start of an episode; consumes `rng`.

    Raises:
      ElsewhereError: if no `initial_obs` was given.
    """
    if self._initial_obs is None:
      raise self._nowhere()
    return self._initial_obs(rng)

  @property
  def action_space(self) -> spaces.ActionSpace:
    """The given action space."""
    return self._action_space

  def _nowhere(self) -> ElsewhereError:
    return ElsewhereError(
      'env: is outside JAX, so it cannot be reset or stepped here: must be run'
      ' by training.external'
    )
