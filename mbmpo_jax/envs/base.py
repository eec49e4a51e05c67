"""The interface between an environment and a model-based algorithm.

`Environment` extends `brax.envs.Env`, so brax's trainers and wrappers accept
it. It adds what imagined rollouts need: the reward, the termination and the
reset distribution as pure functions. This class implements `step` with these
functions, so real and imagined rewards cannot differ.
"""

import abc
import warnings
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import mujoco

from mbmpo_jax import quiet
from mbmpo_jax.envs import spaces

with warnings.catch_warnings(), quiet.quiet_imports():
  # brax.envs imports jaxopt, which warns that it is deprecated.
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  from brax import envs as brax_envs

State: TypeAlias = brax_envs.State


class Pose(NamedTuple):
  """Positions of the bodies in `Environment.scene`."""

  qpos: jax.Array  # [nq]
  mocap_pos: jax.Array  # [nmocap, 3]
  mocap_quat: jax.Array  # [nmocap, 4]


class Environment(brax_envs.Env):
  """An environment whose reward and termination are functions of observations.

  A subclass implements the physics (`initial_state`, `advance`, `observe`) and
  the task (`reward`, `done`), and sets the sizes. Every method is pure and
  works on a single instance; callers use `jax.vmap`. `reward`, `done`,
  `model_input`, `change` and `project` also accept any leading batch shape.

  Attributes:
    max_episode_steps: the environment's time limit in steps.
    dt: seconds of simulated time per step.
    can_terminate: whether `done` can be 1. If it cannot, the collector compiles
      no resets into its loop.
    reward_is_known: whether `reward` can be computed from observations. If it
      cannot (`tasked.py`), `reward` raises an error and a model has to predict
      rewards.
    done_is_known: the same for `done`.
    starts_are_known: whether `initial_obs` draws the first observation of an
      episode. If it cannot, models use a memory of the first observations of
      real episodes (`models/starts.py`).
  """

  max_episode_steps: int
  dt: float
  can_terminate: bool = True
  reward_is_known: bool = True
  done_is_known: bool = True
  starts_are_known: bool = True

  @abc.abstractmethod
  def initial_state(self, rng: jax.Array) -> Any:
    """Draws a physics state from the reset distribution; consumes `rng`."""

  @abc.abstractmethod
  def advance(self, pipeline_state: Any, action: jax.Array) -> Any:
    """The physics state one step later, under an allowed `action` [A]."""

  @abc.abstractmethod
  def observe(self, pipeline_state: Any) -> jax.Array:
    """Returns the observation [O] of a physics state."""

  @abc.abstractmethod
  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Rewards [...] of `obs` [..., O], `action` [..., A] and `next_obs`."""

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns 1. where `next_obs` [..., O] ends the episode; 0. by default."""
    return jnp.zeros(next_obs.shape[:-1], next_obs.dtype)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """The dynamics model's input for `obs` [..., O]; `obs` by default."""
    return obs

  def change(self, obs: jax.Array, next_obs: jax.Array) -> jax.Array:
    """Returns the model's target for a step, [..., O].

    The default is `next_obs - obs`. For an angle that is observed within one
    period, return the shorter of the two differences: a model could not learn
    the jump from one end of the period to the other. `project` of the sum of
    `obs` and the change must equal `next_obs`.
    """
    return next_obs - obs

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Maps a predicted observation [..., O] to the nearest valid one.

    The default is the identity. A model predicts each number separately, so a
    predicted quaternion is not of unit length, an angle leaves its period, and
    a speed exceeds the limit of the observation. Imagined rollouts call this
    method before `reward` and `done`. It must not change observations of the
    real environment.
    """
    return next_obs

  def initial_obs(self, rng: jax.Array) -> jax.Array:
    """Draws the observation [O] of a reset; consumes `rng`.

    A subclass may skip the physics.
    """
    return self.observe(self.initial_state(rng))

  def scene(self) -> mujoco.MjModel | None:
    """Returns a MuJoCo model for rendering; `None` by default."""
    return None

  def pose(self, pipeline_state: Any) -> Pose:
    """Returns the positions of the bodies in `scene` for a physics state.

    Raises:
      NotImplementedError: if there is no scene.
    """
    raise NotImplementedError(f'{type(self).__name__}.pose: is not implemented')

  def reset(self, rng: jax.Array) -> State:
    """Starts an episode; consumes `rng`."""
    pipeline_state = self.initial_state(rng)
    obs = self.observe(pipeline_state)
    zero = jnp.zeros((), obs.dtype)
    return State(pipeline_state, obs, reward=zero, done=zero)

  def step(self, state: State, action: jax.Array) -> State:
    """Advances one step under `action` [A], projected to the action space."""
    action = self.action_space.project(action)
    pipeline_state = self.advance(state.pipeline_state, action)
    next_obs = self.observe(pipeline_state)
    return state.replace(
      pipeline_state=pipeline_state,
      obs=next_obs,
      reward=self.reward(state.obs, action, next_obs),
      done=self.done(next_obs),
    )

  @property
  def action_space(self) -> spaces.ActionSpace:
    """The set of allowed actions; the box [-1, 1]^A by default.

    For discrete actions, `action_size` is their number.
    """
    return spaces.Box(self.action_size)

  @property
  def backend(self) -> str:
    """The physics engine's name, as brax requires it."""
    return 'jax'
