"""Swing a pole up on a cart and balance it (Gal et al. 2016, Deep PILCO).

State and observation are [x, x', theta, theta'], where theta = 0 is upright.
For cart mass M, a uniform pole of mass m and length l, friction b and force F,
the accelerations are

  x''     = (-2 m l theta'^2 s + 3 m g s c + 4 (F - b x'))
            / (4 (M + m) - 3 m c^2)
  theta'' = (-3 m l theta'^2 s c + 6 (M + m) g s + 6 (F - b x') c)
            / (4 l (M + m) - 3 m l c^2),      s = sin theta, c = cos theta.

Forward Euler integrates them with steps of 0.1 s; an episode has 25 steps. A
push to the right tips an upright pole to the left, where theta is positive: the
tip is at (x - l s, l c). The reward is exp(-d^2 / (2 * 0.25^2)) - 1 after the
step, where d is the distance of the tip from (0, l).

`Masses` is the task family of GSSM (Wang and van Hoof 2022, section 5): M is
uniform in [1, 2] kg and m in [0.7, 1] kg.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from mbmpo_jax.envs import base
from mbmpo_jax.envs import families
from mbmpo_jax.envs import mjx

_GRAVITY = 9.82  # m/s^2
_LENGTH = 0.6  # m
_FRICTION = 0.1  # N s/m
_MAX_FORCE = 10.0  # N
_REWARD_WIDTH = 0.25  # m
_RESET_STD = 0.02


class CartpoleSwingup(base.Environment):
  """4 observations, 1 action, never done; the physics state is observed.

  Attributes:
    cart_mass: M, in kg.
    pole_mass: m, in kg.
  """

  max_episode_steps = 25
  can_terminate = False
  dt = 0.1
  observation_size = 4
  action_size = 1

  def __init__(
    self,
    cart_mass: jax.Array | float = 0.5,
    pole_mass: jax.Array | float = 0.5,
  ) -> None:
    """Sets the masses of cart and pole, in kg."""
    self.cart_mass = cart_mass
    self.pole_mass = pole_mass

  def initial_state(self, rng: jax.Array) -> jax.Array:
    """Hanging at rest, plus N(0, 0.02^2) in every number; consumes `rng`."""
    rest = jnp.asarray([0.0, 0.0, jnp.pi, 0.0])
    return rest + _RESET_STD * jax.random.normal(rng, (4,))

  def advance(self, pipeline_state: jax.Array, action: jax.Array) -> jax.Array:
    """One Euler step under a force of 10 N times the action."""
    _, x_dot, theta, theta_dot = pipeline_state
    sin, cos = jnp.sin(theta), jnp.cos(theta)
    mass, pole = self.cart_mass + self.pole_mass, self.pole_mass
    push = _MAX_FORCE * action[0] - _FRICTION * x_dot
    spin = pole * _LENGTH * jnp.square(theta_dot) * sin
    fall = _GRAVITY * sin
    inertia = 4 * mass - 3 * pole * jnp.square(cos)
    x_acc = (-2 * spin + 3 * pole * fall * cos + 4 * push) / inertia
    theta_acc = (-3 * spin * cos + 6 * mass * fall + 6 * push * cos) / (
      _LENGTH * inertia
    )
    rates = jnp.stack([x_dot, x_acc, theta_dot, theta_acc])
    return pipeline_state + self.dt * rates

  def observe(self, pipeline_state: jax.Array) -> jax.Array:
    """Returns [x, x', theta, theta'], in m, m/s, rad and rad/s."""
    return pipeline_state

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns exp(-d^2 / (2 * 0.25^2)) - 1 of the next observation, [...]."""
    x, theta = next_obs[..., 0], next_obs[..., 2]
    across = x - _LENGTH * jnp.sin(theta)
    below = _LENGTH * (1 - jnp.cos(theta))
    squared = jnp.square(across) + jnp.square(below)
    return jnp.expm1(-squared / (2 * _REWARD_WIDTH**2))

  def model_input(self, obs: jax.Array) -> jax.Array:
    """Replaces the angle by its sine and cosine, which have period 2 pi."""
    theta = obs[..., 2:3]
    return jnp.concatenate(
      [obs[..., :2], jnp.sin(theta), jnp.cos(theta), obs[..., 3:]], -1
    )

  def scene(self) -> mujoco.MjModel:
    """The cart on its rail, and the target of the tip."""
    return mujoco.MjModel.from_xml_path(
      str(mjx.ASSETS / 'cartpole_swingup.xml')
    )

  def pose(self, pipeline_state: jax.Array) -> base.Pose:
    """x and theta are the scene's coordinates."""
    none = jnp.zeros((0, 3)), jnp.zeros((0, 4))
    return base.Pose(pipeline_state[jnp.asarray([0, 2])], *none)


class Task(NamedTuple):
  """Masses, which differ between the tasks of `Masses`."""

  cart_mass: jax.Array  # [], M in kg
  pole_mass: jax.Array  # [], m in kg


class Masses(families.Family):
  """Carts and poles with different masses; all tasks have the same reward."""

  nominal = CartpoleSwingup(1.5, 0.85)
  num_test_tasks = 50

  def trained_range(self) -> tuple[Task, Task]:
    """M in [1, 2] kg, m in [0.7, 1] kg."""
    low, high = (1.0, 0.7), (2.0, 1.0)
    return Task(*map(jnp.asarray, low)), Task(*map(jnp.asarray, high))

  def world(self, task: Task, prepared: Any) -> CartpoleSwingup:
    """The cart-pole with the masses of the task."""
    del prepared
    return CartpoleSwingup(task.cart_mass, task.pole_mass)

  def describe(self, task: Task) -> str:
    """Names the two masses."""
    return f'cart {task.cart_mass:.3g} kg, pole {task.pole_mass:.3g} kg'
