"""Domain randomisation: each episode has a different body.

`Randomized` is the shortest way to train a policy that is robust to physical
parameters: it accepts any body and any `draw`, and needs no registration. Use a
`families.Family` if tasks need a test set, descriptions or a schedule other
than one per episode, or if the algorithm chooses tasks itself. The body's
factors are then the task, and `prepare` and `world` do what this module does.
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
  """A physics state and the parameters of its body."""

  physics: physics.Physics
  state: Any  # The wrapped environment's state.


class Randomized(base.Environment):
  """An environment whose physics is drawn at every reset.

  The physics is constant within an episode. The next episode, started by
  `reset` or by the collector after a termination, draws new physics. The
  physics is part of the state, not of the observation; replacing
  `pipeline_state.physics` changes the task within an episode.

  `initial_obs` equals the observation of a reset with the same key. Under jit
  it computes no physics unless the observation depends on it.

  Attributes:
    wrapped: the wrapped environment, with the nominal body.
    draw: key -> the factors of one episode's body.
  """

  def __init__(self, env: mjx.MjxEnvironment, draw: Draw) -> None:
    """Randomises `env`.

    Args:
      env: an environment with the nominal body.
      draw: consumes a key and returns positive `Scales`, with the same shapes
        for every key; `log_uniform` makes such a function.

    Raises:
      physics.PhysicsError: if `env` is not simulated by MJX.
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
    """Takes one step with the episode's body."""
    env = physics.with_physics(self.wrapped, pipeline_state.physics)
    state = env.advance(pipeline_state.state, action)
    return pipeline_state._replace(state=state)

  def observe(self, pipeline_state: RandomizedState) -> jax.Array:
    """Returns the observation of the episode's body."""
    env = physics.with_physics(self.wrapped, pipeline_state.physics)
    return env.observe(pipeline_state.state)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns the wrapped environment's reward."""
    return self.wrapped.reward(obs, action, next_obs)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns the wrapped environment's termination."""
    return self.wrapped.done(next_obs)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """Returns the wrapped environment's model input."""
    return self.wrapped.model_input(obs)

  def change(self, obs: jax.Array, next_obs: jax.Array) -> jax.Array:
    """Returns the wrapped environment's change."""
    return self.wrapped.change(obs, next_obs)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Applies the wrapped environment's projection."""
    return self.wrapped.project(next_obs)

  def scene(self) -> mujoco.MjModel | None:
    """The wrapped environment's scene; shapes are not randomised."""
    return self.wrapped.scene()

  def pose(self, pipeline_state: RandomizedState) -> base.Pose:
    """The pose of the wrapped environment's state."""
    return self.wrapped.pose(pipeline_state.state)

  @property
  def observation_size(self) -> int:
    """The wrapped environment's observation size."""
    return self.wrapped.observation_size

  @property
  def action_size(self) -> int:
    """The wrapped environment's action size."""
    return self.wrapped.action_size

  @property
  def action_space(self) -> spaces.ActionSpace:
    """The wrapped environment's action space."""
    return self.wrapped.action_space

  @property
  def backend(self) -> str:
    """The wrapped environment's physics engine."""
    return self.wrapped.backend


def log_uniform(
  env: mjx.MjxEnvironment,
  *,
  mass: float = 1.0,
  damping: float = 1.0,
  friction: float = 1.0,
  gear: float = 1.0,
) -> Draw:
  """Returns a `draw` with factors `limit^u`, u uniform in [-1, 1).

  Each body, degree of freedom, geom and actuator has its own factor, between 1
  / limit and limit; a limit of 1 keeps a parameter. The walker of
  `rand_param_envs` has limits of 1.5^3 for mass and friction and 1.3^3 for
  damping, and draws its inertias separately.

  Args:
    env: the environment whose body is randomised.
    mass: the limit for body masses and inertias.
    damping: the limit for the damping of degrees of freedom.
    friction: the limit for the friction coefficients of geoms.
    gear: the limit for actuator gears.

  Returns:
    A function for `Randomized`.

  Raises:
    physics.PhysicsError: naming a limit that is not a finite number >= 1.
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
