"""Domain randomisation: every episode has a body of its own.

The short way to a policy that is robust: any body, any `draw`, nothing to
register. Where tasks are to have a test set, words, or another schedule than
one per episode, or an algorithm is to hold one, a body's factors are the task
of a `families.Family`, whose `prepare` and `world` are what is done here.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import mujoco

from mbmpo_jax.envs import base
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import physics
from mbmpo_jax.envs import spaces

Draw = Callable[[jax.Array], physics.Scales]


class RandomizedState(NamedTuple):
  """A physics state and the body it belongs to."""

  physics: physics.Physics
  state: Any  # Of the environment inside.


class Randomized(base.Environment):
  """An environment whose physics is drawn at every reset.

  An episode keeps its physics to the end; the next one, begun by `reset` or by
  the collector after a termination, draws anew. The physics is part of the
  state, not of the observation: replacing `pipeline_state.physics` changes the
  task within an episode.

  `initial_obs` is exactly that of a reset with the same key; under jit it costs
  no physics, unless the observation depends on it.

  Attributes:
    wrapped: the environment inside, with the nominal body.
    draw: key -> the factors of one episode's body.
  """

  def __init__(self, env: mjx.MjxEnvironment, draw: Draw) -> None:
    """Randomises `env`.

    Args:
      env: with the nominal body.
      draw: consumes a key and returns positive `Scales`, of the same shapes
        for every key; `log_uniform` makes one.
    """
    if env.backend != 'mjx':
      raise physics.PhysicsError(
        f"env.physics={env.backend!r}: must be 'mjx' for a randomised body"
      )
    self.wrapped = env
    self.draw = draw
    self.max_episode_steps = env.max_episode_steps
    self.dt = env.dt
    self.can_terminate = env.can_terminate

  def initial_state(self, rng: jax.Array) -> RandomizedState:
    """Draws the physics, then a state of that body; consumes `rng`.

    Raises:
      physics.PhysicsError: if `draw` returns factors that do not fit the body.
    """
    draw_rng, state_rng = jax.random.split(rng)
    drawn = physics.scaled(self.wrapped.model, self.draw(draw_rng))
    env = physics.with_physics(self.wrapped, drawn)
    return RandomizedState(drawn, env.initial_state(state_rng))

  def advance(
    self, pipeline_state: RandomizedState, action: jax.Array
  ) -> RandomizedState:
    """One step of the episode's own body."""
    env = physics.with_physics(self.wrapped, pipeline_state.physics)
    state = env.advance(pipeline_state.state, action)
    return pipeline_state._replace(state=state)

  def observe(self, pipeline_state: RandomizedState) -> jax.Array:
    """The observation of the episode's own body."""
    env = physics.with_physics(self.wrapped, pipeline_state.physics)
    return env.observe(pipeline_state.state)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """The reward of the environment inside."""
    return self.wrapped.reward(obs, action, next_obs)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """The termination of the environment inside."""
    return self.wrapped.done(next_obs)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """What a model of the environment inside sees."""
    return self.wrapped.model_input(obs)

  def change(self, obs: jax.Array, next_obs: jax.Array) -> jax.Array:
    """That of the environment inside."""
    return self.wrapped.change(obs, next_obs)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """That of the environment inside."""
    return self.wrapped.project(next_obs)

  def scene(self) -> mujoco.MjModel | None:
    """That of the environment inside: shapes are not randomised."""
    return self.wrapped.scene()

  def pose(self, pipeline_state: RandomizedState) -> base.Pose:
    """That of the environment inside."""
    return self.wrapped.pose(pipeline_state.state)

  @property
  def observation_size(self) -> int:
    """That of the environment inside."""
    return self.wrapped.observation_size

  @property
  def action_size(self) -> int:
    """That of the environment inside."""
    return self.wrapped.action_size

  @property
  def action_space(self) -> spaces.ActionSpace:
    """That of the environment inside."""
    return self.wrapped.action_space

  @property
  def backend(self) -> str:
    """That of the environment inside."""
    return self.wrapped.backend


def log_uniform(
  env: mjx.MjxEnvironment,
  *,
  mass: float = 1.0,
  damping: float = 1.0,
  friction: float = 1.0,
  gear: float = 1.0,
) -> Draw:
  """Factors `limit^u` with u uniform in [-1, 1), one per element.

  Each body, degree of freedom, geom and actuator draws its own, between
  1 / limit and limit; a limit of 1 leaves a parameter as it is. The walker of
  `rand_param_envs` has mass and friction 1.5^3 and damping 1.3^3, its inertias
  drawn apart.

  Args:
    env: whose body is meant.
    mass: the limit of the bodies' masses and inertias.
    damping: of the damping of the degrees of freedom.
    friction: of the geoms' friction coefficients.
    gear: of the actuators' gears.

  Returns:
    What `Randomized` draws with.

  Raises:
    physics.PhysicsError: naming a limit that is no finite number >= 1.
  """
  limits = dict(mass=mass, damping=damping, friction=friction, gear=gear)
  for name, limit in limits.items():
    if not (isinstance(limit, int | float) and 1 <= limit < math.inf):
      raise physics.PhysicsError(
        f'{name}={limit!r}: must be a finite number >= 1, the largest factor'
      )
  model = env.mj_model
  sizes = (model.nbody, model.nv, model.ngeom, model.nu)

  def draw(rng: jax.Array) -> physics.Scales:
    keys = jax.random.split(rng, len(sizes))
    return physics.Scales(
      *(
        limit ** jax.random.uniform(key, (size,), minval=-1.0)
        for limit, key, size in zip(limits.values(), keys, sizes, strict=True)
      )
    )

  return draw
