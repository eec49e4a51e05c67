"""Swing two links up by a torque between them (Sutton and Barto 2018, 11.3).

State and observation are [theta1, theta2, theta1', theta2']: theta1 is measured
from the hanging pose, theta2 relative to the first link. With masses m1 and m2,
links of length 1, their centres of mass at c = 1/2, moments of inertia I = 1
about these centres, and the torque tau in {-1, 0, 1} at the second joint, the
accelerations solve

  [d1 d2; d2 d3] [theta1''; theta2''] = [0; tau] - h
  d1 = m1 c^2 + m2 (1 + c^2 + 2 c cos theta2) + 2 I
  d2 = m2 (c^2 + c cos theta2) + I,    d3 = m2 c^2 + I
  h1 = -m2 c theta2' (theta2' + 2 theta1') sin theta2
       + (m1 c + m2) g sin theta1 + m2 c g sin(theta1 + theta2)
  h2 = m2 c theta1'^2 sin theta2 + m2 c g sin(theta1 + theta2)

One step of the classical Runge-Kutta method integrates them over 0.2 s. Angles
are then wrapped to [-pi, pi], velocities clipped to +-4 pi and +-9 pi rad/s.
These are the dynamics of Gymnasium's Acrobot-v1; the moments of inertia do not
depend on the masses.

The reward of a step is 0 if the tip ends more than one link length above the
first joint, else -1. At the goal the acrobot stays where it is. The return of
an episode is therefore minus the number of steps before the goal, at least
-200. The state determines whether the goal has been reached, so imagined
rollouts detect the goal as well.

The task family is that of GSSM (Wang and van Hoof 2022, section 5): m1 and m2
are uniform in [0.8, 1.2] kg.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from mbmpo_jax import straight_through
from mbmpo_jax.envs import base
from mbmpo_jax.envs import families
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import spaces

_GRAVITY = 9.8  # m/s^2
_CENTRE = 0.5  # m, c
_INERTIA = 1.0  # kg m^2, I
MAX_SPEEDS = (4 * jnp.pi, 9 * jnp.pi)  # rad/s
RESET_WIDTH = 0.1


class Acrobot(base.Environment):
  """The acrobot; 4 observations, 3 discrete torques, the state is observed.

  Attributes:
    masses: (m1, m2), in kg.
  """

  max_episode_steps = 200
  dt = 0.2
  observation_size = 4
  action_size = 3
  action_space = spaces.Discrete(3)

  def __init__(
    self,
    masses: tuple[jax.Array | float, jax.Array | float] = (1.0, 1.0),
    *,
    terminates: bool = False,
  ) -> None:
    """Sets the masses of the links.

    Args:
      masses: (m1, m2), in kg.
      terminates: whether an episode ends at the goal.
    """
    self.masses = masses
    self.can_terminate = terminates

  def initial_state(self, rng: jax.Array) -> jax.Array:
    """Hanging at rest, plus U(-0.1, 0.1) in every number; consumes `rng`."""
    return jax.random.uniform(
      rng, (4,), minval=-RESET_WIDTH, maxval=RESET_WIDTH
    )

  def advance(self, pipeline_state: jax.Array, action: jax.Array) -> jax.Array:
    """One Runge-Kutta step under the chosen torque; no motion at the goal."""
    after = self.swung(pipeline_state, action[2] - action[0])
    return jnp.where(_at_goal(pipeline_state), pipeline_state, after)

  def swung(self, state: jax.Array, torque: jax.Array) -> jax.Array:
    """Returns the state [4] after one step, whether or not it is at the goal.

    Args:
      state: [4].
      torque: in N m, [].
    """
    h = self.dt

    def rates(state: jax.Array) -> jax.Array:
      return self._rates(state, torque)

    first = rates(state)
    second = rates(state + h / 2 * first)
    third = rates(state + h / 2 * second)
    fourth = rates(state + h * third)
    after = state + h / 6 * (first + 2 * second + 2 * third + fourth)
    return self.project(after)

  def observe(self, pipeline_state: jax.Array) -> jax.Array:
    """[theta1, theta2, theta1', theta2'], in rad and rad/s."""
    return pipeline_state

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns 0 where the next observation is at the goal, else -1; [...]."""
    return _at_goal(next_obs).astype(next_obs.dtype) - 1

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns 1. at the goal if episodes end there, else 0."""
    if not self.can_terminate:
      return super().done(next_obs)
    return _at_goal(next_obs).astype(next_obs.dtype)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """Appends sines and cosines of the angles, which have period 2 pi."""
    angles = obs[..., :2]
    return jnp.concatenate([obs, jnp.sin(angles), jnp.cos(angles)], -1)

  def change(self, obs: jax.Array, next_obs: jax.Array) -> jax.Array:
    """Returns the difference; angle differences are wrapped to [-pi, pi]."""
    raw = next_obs - obs
    return jnp.concatenate([_wrapped(raw[..., :2]), raw[..., 2:]], -1)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Wraps angles to [-pi, pi] and clips speeds to their limits."""
    speeds = [
      straight_through.clip(next_obs[..., 2 + i], -limit, limit)
      for i, limit in enumerate(MAX_SPEEDS)
    ]
    return jnp.concatenate(
      [_wrapped(next_obs[..., :2]), jnp.stack(speeds, -1)], -1
    )

  def scene(self) -> mujoco.MjModel:
    """The links and the height of the goal."""
    return mujoco.MjModel.from_xml_path(str(mjx.ASSETS / 'acrobot.xml'))

  def pose(self, pipeline_state: jax.Array) -> base.Pose:
    """The two angles are the scene's coordinates."""
    none = jnp.zeros((0, 3)), jnp.zeros((0, 4))
    return base.Pose(pipeline_state[:2], *none)

  def _rates(self, state: jax.Array, torque: jax.Array) -> jax.Array:
    """The state's derivative in time, [4]."""
    first, second = self.masses
    c, g = _CENTRE, _GRAVITY
    angle, bend, speed, bend_speed = state
    sin, cos = jnp.sin(bend), jnp.cos(bend)
    d1 = first * c**2 + second * (1 + c**2 + 2 * c * cos) + 2 * _INERTIA
    d2 = second * (c**2 + c * cos) + _INERTIA
    d3 = second * c**2 + _INERTIA
    tip_weight = second * c * g * jnp.sin(angle + bend)
    h1 = (
      -second * c * bend_speed * (bend_speed + 2 * speed) * sin
      + (first * c + second) * g * jnp.sin(angle)
      + tip_weight
    )
    h2 = second * c * jnp.square(speed) * sin + tip_weight - torque
    determinant = d1 * d3 - jnp.square(d2)
    acceleration = (d2 * h2 - d3 * h1) / determinant
    bend_acceleration = (d2 * h1 - d1 * h2) / determinant
    return jnp.stack([speed, bend_speed, acceleration, bend_acceleration])


class Task(NamedTuple):
  """Masses of the links, which differ between the tasks of `Masses`."""

  first_mass: jax.Array  # [], m1 in kg
  second_mass: jax.Array  # [], m2 in kg


class Masses(families.Family):
  """Acrobots with different masses; all tasks have the same reward."""

  # Whether an episode ends at the goal.
  variants: Mapping[str, bool] = {'absorbing': False, 'terminating': True}
  num_test_tasks = 35

  def __init__(self, variant: str = 'absorbing') -> None:
    """Builds the family.

    Args:
      variant: `absorbing` continues an episode at the goal, `terminating` ends
        it.
    """
    self._terminates = self.variants[variant]
    self.nominal = Acrobot(terminates=self._terminates)

  def trained_range(self) -> tuple[Task, Task]:
    """Both masses in [0.8, 1.2] kg."""
    low, high = jnp.asarray(0.8), jnp.asarray(1.2)
    return Task(low, low), Task(high, high)

  def world(self, task: Task, prepared: Any) -> Acrobot:
    """The acrobot with the masses of the task."""
    del prepared
    return Acrobot(
      (task.first_mass, task.second_mass), terminates=self._terminates
    )

  def describe(self, task: Task) -> str:
    """Names the two masses."""
    return f'links {task.first_mass:.3g} kg and {task.second_mass:.3g} kg'


def _wrapped(angles: jax.Array) -> jax.Array:
  """Returns the angles [...] wrapped to [-pi, pi]."""
  return angles - 2 * jnp.pi * jnp.round(angles / (2 * jnp.pi))


def _at_goal(obs: jax.Array) -> jax.Array:
  """Returns whether the tip is above the goal's height, bool [...]."""
  angle, bend = obs[..., 0], obs[..., 1]
  return -jnp.cos(angle) - jnp.cos(angle + bend) > 1
