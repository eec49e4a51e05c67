"""A world that is stepped elsewhere: by Gymnasium, or on a robot's own floor.

Here it is only what a method needs that imagines: sizes, and the task, as far
as it can be written down. `training/external` moves the real one.
"""

from collections.abc import Callable
from typing import Any

import jax

from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.envs import spaces

# Said in place of a function: the models are to predict it.
PREDICTED = 'predicted'


class ElsewhereError(errors.UserError, NotImplementedError):
  """A world that is stepped elsewhere was asked to move here."""


class Elsewhere(base.Environment):
  """A task, and no physics."""

  observation_size = 0  # Both are set per instance.
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
    """Nothing is called yet.

    Args:
      observation_size: O.
      action_space: `spaces.Box(A)`, actions within [-1, 1], or
        `spaces.Discrete(A)`, one-hot vectors.
      max_episode_steps: the time limit.
      dt: seconds per step.
      reward: `(obs [..., O], action [..., A], next_obs [..., O]) -> [...]`, or
        `PREDICTED`.
      done: `next_obs [..., O] -> [...]`, 1. where it ends the episode, or
        `PREDICTED`; `None` where nothing but the time limit does.
      model_input: what a dynamics model sees of `obs [..., O]`.
      initial_obs: key -> an observation [O] at the start of an episode; without
        it, imagination starts as real episodes did.
      project: the observation nearest to a predicted one `[..., O]`.

    Raises:
      ValueError: if `reward` or `done` is another string.
    """
    for name, given in (('reward', reward), ('done', done)):
      if isinstance(given, str) and given != PREDICTED:
        raise ValueError(
          f'{name}={given!r}: must be a function of observations, or'
          f' {PREDICTED!r}'
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
    """It starts elsewhere."""
    raise self._nowhere()

  def advance(self, pipeline_state: Any, action: jax.Array) -> Any:
    """It moves elsewhere."""
    raise self._nowhere()

  def observe(self, pipeline_state: Any) -> jax.Array:
    """It is seen elsewhere."""
    raise self._nowhere()

  def step(self, state: base.State, action: jax.Array) -> base.State:
    """It moves elsewhere, and may pay and end as it likes."""
    raise self._nowhere()

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """The given rewards [...].

    Raises:
      ElsewhereError: if models are to predict them.
    """
    if isinstance(self._reward, str):
      raise ElsewhereError('reward: is predicted by models: nobody can ask')
    return self._reward(obs, action, next_obs)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """The given 1. where `next_obs` [..., O] ends the episode.

    Raises:
      ElsewhereError: if models are to predict them.
    """
    if isinstance(self._done, str):
      raise ElsewhereError('done: is predicted by models: nobody can ask')
    return (
      super().done(next_obs) if self._done is None else self._done(next_obs)
    )

  def model_input(self, obs: jax.Array) -> jax.Array:
    """What a dynamics model sees of `obs` [..., O]."""
    return obs if self._model_input is None else self._model_input(obs)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """The given observation nearest to a predicted one [..., O]."""
    return next_obs if self._project is None else self._project(next_obs)

  def initial_obs(self, rng: jax.Array) -> jax.Array:
    """The given observation [O] at the start of an episode; consumes `rng`.

    Raises:
      ElsewhereError: if none is given.
    """
    if self._initial_obs is None:
      raise self._nowhere()
    return self._initial_obs(rng)

  @property
  def action_space(self) -> spaces.ActionSpace:
    """As given."""
    return self._action_space

  def _nowhere(self) -> ElsewhereError:
    return ElsewhereError(
      'env: this world is not JAX and cannot be stepped here: must be run by'
      ' training.external'
    )
