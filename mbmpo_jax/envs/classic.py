"""The classic environments of the public benchmark (Wang et al. 2019, MBBL).

They have Gym's physics and dense rewards r of the observation *before* the
step. They never terminate; an episode has 200 steps. The action a is in [-1,
1].

  pendulum      u = 2 a,  theta'' = 15 sin theta + 3 u, 0.05 s,
                r = -(cos theta + 0.1 |sin theta| + 0.1 theta'^2 + 0.001 u^2)
  cartpole      a push of 10 N to the right if a > 0, else to the left, 0.02 s,
                r = cos theta - 0.01 x^2
  acrobot       a torque of -1 if a < -0.33, 0 if a < 0.33, else 1, 0.2 s,
                r = the tip's height, -cos theta1 - cos(theta1 + theta2)
  mountain_car  x'' = 0.0015 a - 0.0025 cos 3x, a unit of time a step, r = x

theta = 0 is upright in the first two. The pendulum's reward is therefore
largest, 1 a step, for *hanging* at rest, not for being upright. The benchmark's
code has this reward, and its published returns, at most 200, refer to it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from mbmpo_jax import straight_through
from mbmpo_jax.envs import acrobot as acrobot_lib
from mbmpo_jax.envs import base
from mbmpo_jax.envs import circles
from mbmpo_jax.envs import mjx

_Step = Callable[[jax.Array, jax.Array], jax.Array]
_Map = Callable[[jax.Array], jax.Array]


def _itself(state: jax.Array) -> jax.Array:
  return state


class World(NamedTuple):
  """The parameters of one classic environment.

  Attributes:
    scene: the MJCF file for rendering.
    dt: seconds per step.
    observation_size: O.
    low: lower bounds of the uniform distribution of initial states, [S].
    high: upper bounds of it, [S].
    advance: (state [S], action [1]) -> the state after one step.
    reward: (observation [..., O] before the step, action [..., 1]) -> [...].
    pose: state -> the coordinates of the scene.
    observe: state -> observation.
    circles: index pairs in the observation of a cosine and a sine.
    limits: bounded numbers in the observation: (index, minimum, maximum).
    angles: indices of angles in the observation, which `model_input` replaces
      by sines and cosines.
  """

  scene: str
  dt: float
  observation_size: int
  low: tuple[float, ...]
  high: tuple[float, ...]
  advance: _Step
  reward: _Step
  pose: _Map
  observe: _Map = _itself
  circles: tuple[tuple[int, int], ...] = ()
  limits: tuple[tuple[int, float, float], ...] = ()
  angles: tuple[int, ...] = ()


class Classic(base.Environment):
  """A classic environment; 1 action; the physics state is an array [S].

  Attributes:
    world: the parameters of the environment.
  """

  max_episode_steps = 200
  can_terminate = False
  action_size = 1

  def __init__(self, world: World) -> None:
    """Builds the environment of these parameters."""
    self.world = world
    self.dt = world.dt

  @property
  def observation_size(self) -> int:
    """O, as in `world`."""
    return self.world.observation_size

  def initial_state(self, rng: jax.Array) -> jax.Array:
    """Uniform between `world.low` and `world.high`; consumes `rng`."""
    low, high = jnp.asarray(self.world.low), jnp.asarray(self.world.high)
    return jax.random.uniform(rng, low.shape, minval=low, maxval=high)

  def advance(self, pipeline_state: jax.Array, action: jax.Array) -> jax.Array:
    """Returns the state [S] after one step."""
    return self.world.advance(pipeline_state, action)

  def observe(self, pipeline_state: jax.Array) -> jax.Array:
    """Returns the observation [O] of a state."""
    return self.world.observe(pipeline_state)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns the reward of the observation before the step, [...]."""
    del next_obs
    return self.world.reward(obs, action)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """Replaces angles by sines and cosines, which have period 2 pi."""
    places = self.world.angles
    if not places:
      return obs
    angles = obs[..., places]
    others = [i for i in range(self.observation_size) if i not in places]
    return jnp.concatenate(
      [jnp.sin(angles), jnp.cos(angles), obs[..., tuple(others)]], -1
    )

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Normalises cosine-sine pairs and clips bounded numbers."""
    next_obs = circles.normalized(next_obs, self.world.circles)
    for place, low, high in self.world.limits:
      bounded = straight_through.clip(next_obs[..., place], low, high)
      next_obs = next_obs.at[..., place].set(bounded)
    return next_obs

  def scene(self) -> mujoco.MjModel:
    """Returns the MuJoCo model for rendering."""
    return mujoco.MjModel.from_xml_path(str(mjx.ASSETS / self.world.scene))

  def pose(self, pipeline_state: jax.Array) -> base.Pose:
    """Returns the scene's coordinates for a state."""
    none = jnp.zeros((0, 3)), jnp.zeros((0, 4))
    return base.Pose(self.world.pose(pipeline_state), *none)


def _swing(state: jax.Array, action: jax.Array) -> jax.Array:
  """One step of the pendulum, with its speed clipped after it has moved.

  Gym's first version has this order.
  """
  theta, speed = state
  speed += 0.05 * (15.0 * jnp.sin(theta) + 6.0 * action[0])
  theta += 0.05 * speed
  return jnp.stack([theta, jnp.clip(speed, -8.0, 8.0)])


def _hanging(obs: jax.Array, action: jax.Array) -> jax.Array:
  cos, sin, speed = jnp.moveaxis(obs, -1, 0)
  effort = 0.001 * jnp.square(2.0 * action[..., 0])
  return -(cos + 0.1 * jnp.abs(sin) + 0.1 * jnp.square(speed) + effort)


def _balance(state: jax.Array, action: jax.Array) -> jax.Array:
  """One Euler step of the cart-pole: 1 kg and 0.1 kg, half the pole 0.5 m."""
  _, x_dot, theta, theta_dot = state
  sin, cos = jnp.sin(theta), jnp.cos(theta)
  force = jnp.where(action[0] > 0, 10.0, -10.0)
  push = (force + 0.05 * jnp.square(theta_dot) * sin) / 1.1
  inertia = 0.5 * (4.0 / 3.0 - 0.1 * jnp.square(cos) / 1.1)
  theta_acc = (9.8 * sin - cos * push) / inertia
  x_acc = push - 0.05 * theta_acc * cos / 1.1
  return state + 0.02 * jnp.stack([x_dot, x_acc, theta_dot, theta_acc])


def _upright(obs: jax.Array, action: jax.Array) -> jax.Array:
  del action
  return jnp.cos(obs[..., 2]) - 0.01 * jnp.square(obs[..., 0])


def _climb(state: jax.Array, action: jax.Array) -> jax.Array:
  """One step of the car in the valley; it stops at the left end."""
  x, speed = state
  speed += 0.0015 * action[0] - 0.0025 * jnp.cos(3.0 * x)
  speed = jnp.clip(speed, -0.07, 0.07)
  x = jnp.clip(x + speed, -1.2, 0.6)
  return jnp.stack([x, jnp.where((x <= -1.2) & (speed < 0), 0.0, speed)])


def _torque(state: jax.Array, action: jax.Array) -> jax.Array:
  chosen = jnp.where(action[0] < 0.33, 0.0, 1.0)
  chosen = jnp.where(action[0] < -0.33, -1.0, chosen)
  return acrobot_lib.Acrobot().swung(state, chosen)


def _links(state: jax.Array) -> jax.Array:
  cos, sin = jnp.cos(state), jnp.sin(state)
  return jnp.stack([cos[0], sin[0], cos[1], sin[1], state[2], state[3]])


def _height(obs: jax.Array, action: jax.Array) -> jax.Array:
  del action
  cos, sin, bend_cos, bend_sin = (obs[..., i] for i in range(4))
  return -cos - (cos * bend_cos - sin * bend_sin)


_FASTEST = tuple(float(x) for x in acrobot_lib.MAX_SPEEDS)
_NEAR = (acrobot_lib.RESET_WIDTH,) * 4

PENDULUM = World(
  scene='pendulum.xml',
  dt=0.05,
  observation_size=3,
  low=(-jnp.pi, -1.0),
  high=(jnp.pi, 1.0),
  advance=_swing,
  reward=_hanging,
  pose=lambda state: state[:1],
  observe=lambda state: jnp.stack(
    [jnp.cos(state[0]), jnp.sin(state[0]), state[1]]
  ),
  circles=((0, 1),),
  limits=((2, -8.0, 8.0),),
)
CARTPOLE = World(
  scene='cartpole.xml',
  dt=0.02,
  observation_size=4,
  low=(-0.05,) * 4,
  high=(0.05,) * 4,
  advance=_balance,
  reward=_upright,
  pose=lambda state: jnp.stack([state[0], state[2]]),
  angles=(2,),
)
ACROBOT = World(
  scene='acrobot.xml',
  dt=0.2,
  observation_size=6,
  low=tuple(-x for x in _NEAR),
  high=_NEAR,
  advance=_torque,
  reward=_height,
  pose=lambda state: state[:2],
  observe=_links,
  circles=((0, 1), (2, 3)),
  limits=tuple(
    (place, -most, most) for place, most in zip((4, 5), _FASTEST, strict=True)
  ),
)
MOUNTAIN_CAR = World(
  scene='mountain_car.xml',
  dt=1.0,
  observation_size=2,
  low=(-0.6, 0.0),
  high=(-0.4, 0.0),
  advance=_climb,
  reward=lambda obs, action: obs[..., 0],
  pose=lambda state: jnp.stack([state[0], jnp.sin(3.0 * state[0]) / 3.0]),
  limits=((0, -1.2, 0.6), (1, -0.07, 0.07)),
)
