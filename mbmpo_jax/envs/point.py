"""The 2-D point environment of the paper's section 6.3: move to the origin.

The state is `s` in R^2, uniform on [-2, 2]^2 at reset. A step is `s' = s + 0.1
a` with `a` in [-1, 1]^2. The reward is `-||s||^2` of the state before the step.
An episode has 30 steps.
"""

import jax
import jax.numpy as jnp
import mujoco

from mbmpo_jax.envs import base
from mbmpo_jax.envs import mjx

MAX_STEP = 0.1


class Point(base.Environment):
  """2 observations, 2 actions, never done; the physics state is observed."""

  max_episode_steps = 30
  can_terminate = False
  dt = 1.0
  observation_size = 2
  action_size = 2

  def initial_state(self, rng: jax.Array) -> jax.Array:
    """Draws a position uniformly from [-2, 2]^2; consumes `rng`."""
    return jax.random.uniform(rng, (2,), minval=-2.0, maxval=2.0)

  def advance(self, pipeline_state: jax.Array, action: jax.Array) -> jax.Array:
    """Moves by at most 0.1 along each axis."""
    return pipeline_state + MAX_STEP * action

  def observe(self, pipeline_state: jax.Array) -> jax.Array:
    """Returns the position."""
    return pipeline_state

  def scene(self) -> mujoco.MjModel:
    """A ball on the square of initial positions, with the goal marked."""
    return mujoco.MjModel.from_xml_path(str(mjx.ASSETS / 'point.xml'))

  def pose(self, pipeline_state: jax.Array) -> base.Pose:
    """The position is the ball's coordinates."""
    none = jnp.zeros((0, 3)), jnp.zeros((0, 4))
    return base.Pose(pipeline_state, *none)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Minus the squared distance from the origin before the step."""
    return -jnp.sum(jnp.square(obs), -1)
