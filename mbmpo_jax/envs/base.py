"""The contract between a world and a model-based method.

`Environment` extends `brax.envs.Env`, so that brax's trainers and wrappers run
on it, and adds what a method that imagines needs: the reward, the termination
and the reset distribution as pure functions. `step` is written once, here, on
top of them, so the imagined and the real reward cannot disagree.
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
  # brax.envs imports jaxopt, which announces its own retirement.
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  from brax import envs as brax_envs

State: TypeAlias = brax_envs.State


class Pose(NamedTuple):
  """Where the bodies of `Environment.scene` are."""

  qpos: jax.Array  # [nq]
  mocap_pos: jax.Array  # [nmocap, 3]
  mocap_quat: jax.Array  # [nmocap, 4]


class Environment(brax_envs.Env):
  """A world whose reward and termination are functions of what is observed.

  A subclass gives the physics (`initial_state`, `advance`, `observe`), the task
  (`reward`, `done`) and its sizes. Every method is pure and works on a single
  instance; callers `jax.vmap`. `reward`, `done`, `model_input`, `change` and
  `project` also accept any leading batch shape.

  Attributes:
    max_episode_steps: the environment's own time limit, in steps.
    dt: seconds of simulated time per step.
    can_terminate: whether `done` is ever 1; where it is not, the collector
      compiles no resets into its loop.
    reward_is_known: whether `reward` can be told from observations; where it
      cannot (`tasked.py`), it raises, and a model has to predict rewards.
    done_is_known: the same of `done`.
    starts_are_known: whether `initial_obs` says how episodes begin; where it
      cannot, models remember how real ones did (`models/starts.py`).
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
    """The observation [O] of a physics state."""

  @abc.abstractmethod
  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Rewards [...] of `obs` [..., O], `action` [..., A], `next_obs`."""

  def done(self, next_obs: jax.Array) -> jax.Array:
    """1. where `next_obs` [..., O] ends the episode; never, by default."""
    return jnp.zeros(next_obs.shape[:-1], next_obs.dtype)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """What a dynamics model sees of `obs` [..., O]; `obs`, by default."""
    return obs

  def change(self, obs: jax.Array, next_obs: jax.Array) -> jax.Array:
    """What a step changed, [..., O]; `next_obs - obs`, by default.

    Models learn it. An angle that is observed within a period goes the shorter
    way: no model could learn the jump from one end of the period to the other.
    `project` of `obs` and the change must be `next_obs`.
    """
    return next_obs - obs

  def project(self, next_obs: jax.Array) -> jax.Array:
    """The observation nearest to a predicted one [..., O]; itself, by default.

    A model predicts every number for itself: a unit quaternion grows and
    shrinks, an angle leaves its period, a speed the limit that is observed.
    What is imagined goes through here before `reward` and `done` see it. Must
    leave observations of the environment's own as they are.
    """
    return next_obs

  def initial_obs(self, rng: jax.Array) -> jax.Array:
    """Draws a reset's observation [O] without physics; consumes `rng`."""
    return self.observe(self.initial_state(rng))

  def scene(self) -> mujoco.MjModel | None:
    """What there is to draw; nothing, by default."""
    return None

  def pose(self, pipeline_state: Any) -> Pose:
    """Where the bodies of `scene` are in a physics state.

    Raises:
      NotImplementedError: where there is no scene.
    """
    raise NotImplementedError(f'{type(self).__name__} has nothing to draw')

  def reset(self, rng: jax.Array) -> State:
    """Starts an episode; consumes `rng`."""
    pipeline_state = self.initial_state(rng)
    obs = self.observe(pipeline_state)
    zero = jnp.zeros((), obs.dtype)
    return State(pipeline_state, obs, reward=zero, done=zero)

  def step(self, state: State, action: jax.Array) -> State:
    """Advances one step under `action` [A], put into the action space."""
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
    """What an action may be; the box [-1, 1]^A, by default.

    In a world of choices `action_size` is their number.
    """
    return spaces.Box(self.action_size)

  @property
  def backend(self) -> str:
    """The physics engine's name, as brax wants it."""
    return 'jax'
