"""The cart-pole's dynamics against C MuJoCo's, its reward against geometry."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.envs import cartpole_swingup

_BODIES = """
<mujoco>
  <option gravity="0 0 -9.82"/>
  <worldbody>
    <body>
      <inertial pos="0 0 0" mass="{cart}" diaginertia="1 1 1"/>
      <joint type="slide" axis="1 0 0" damping="0.1"/>
      <body>
        <inertial pos="0 0 .3" mass="{pole}"
                  diaginertia="{inertia} {inertia} 1e-9"/>
        <joint type="hinge" axis="0 -1 0"/>
        <site name="tip" pos="0 0 .6"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def bodies(cart: float, pole: float) -> mujoco.MjModel:
  inertia = pole * 0.6**2 / 12  # of a uniform rod about its middle
  text = _BODIES.format(cart=cart, pole=pole, inertia=inertia)
  return mujoco.MjModel.from_xml_string(text)


@pytest.mark.parametrize(('cart', 'pole'), [(0.5, 0.5), (1.7, 0.8)])
def test_accelerations_are_mujocos(x64, cart, pole):
  env = cartpole_swingup.CartpoleSwingup(cart, pole)
  model = bodies(cart, pole)
  data = mujoco.MjData(model)
  rng = np.random.default_rng(0)
  advance = jax.jit(env.advance)
  for _ in range(20):
    x, x_dot, theta, theta_dot = state = rng.normal(size=4) * [1, 2, 3, 4]
    action = rng.uniform(-1, 1, 1)
    data.qpos, data.qvel = [x, theta], [x_dot, theta_dot]
    data.qfrc_applied = [10 * action[0], 0]
    mujoco.mj_forward(model, data)
    after = np.asarray(advance(jnp.asarray(state), jnp.asarray(action)))
    rates = (after - state) / 0.1
    np.testing.assert_allclose(rates[[0, 2]], [x_dot, theta_dot], rtol=1e-9)
    np.testing.assert_allclose(rates[[1, 3]], data.qacc, rtol=1e-8)


def test_an_episode_is_lagranges(x64):
  """25 steps of M(q) q'' = f(q, q'), solved by NumPy, and their rewards."""
  env = envs.make('cartpole_swingup')
  state = env.reset(jax.random.PRNGKey(0))
  expected = np.asarray(state.obs)
  step = jax.jit(env.step)
  for action in np.random.default_rng(0).uniform(-1.2, 1.2, 25):
    x, x_dot, theta, theta_dot = expected
    sin, cos = np.sin(theta), np.cos(theta)
    half = 0.5 * 0.6 / 2  # the pole's mass times its centre's height
    inertia = [[1.0, -half * cos], [-half * cos, 0.5 * 0.6**2 / 3]]
    push = 10 * np.clip(action, -1, 1) - 0.1 * x_dot
    forces = [push - half * theta_dot**2 * sin, half * 9.82 * sin]
    x_acc, theta_acc = np.linalg.solve(inertia, forces)
    expected = expected + 0.1 * np.array([x_dot, x_acc, theta_dot, theta_acc])
    x, theta = expected[[0, 2]]
    tip = np.array([x - 0.6 * np.sin(theta), 0.6 * np.cos(theta)])
    squared = np.sum((tip - [0, 0.6]) ** 2)
    state = step(state, jnp.asarray([action]))
    np.testing.assert_allclose(state.obs, expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(
      state.reward, np.exp(-squared / (2 * 0.25**2)) - 1, rtol=1e-8
    )


def test_reward_is_of_the_tip_that_moves(x64):
  env = envs.make('cartpole_swingup')
  model = bodies(0.5, 0.5)
  data = mujoco.MjData(model)
  rng = np.random.default_rng(1)
  for _ in range(10):
    obs = rng.normal(size=4) * [0.3, 1, 1, 1]
    data.qpos = obs[[0, 2]]
    mujoco.mj_forward(model, data)
    distance = np.linalg.norm(data.site('tip').xpos - [0, 0, 0.6])
    np.testing.assert_allclose(
      env.reward(jnp.zeros(4), jnp.zeros(1), jnp.asarray(obs)),
      np.exp(-(distance**2) / (2 * 0.25**2)) - 1,
      rtol=1e-8,
    )
  assert env.reward(jnp.ones(4), jnp.ones(1), jnp.zeros(4)) == 0


def test_it_is_drawn_where_its_tip_is(x64):
  """The scene's pole ends where the reward is measured, over the goal at 0."""
  env = envs.make('cartpole_swingup')
  scene = env.scene()
  data = mujoco.MjData(scene)
  for x, theta in ((0.0, 0.0), (0.4, 1.0), (-0.3, 3.0)):
    data.qpos = env.pose(jnp.asarray([x, 1.0, theta, 2.0])).qpos
    mujoco.mj_forward(scene, data)
    end = 2 * data.geom('pole').xpos - data.body('cart').xpos
    expected = [x - 0.6 * np.sin(theta), 0.6 * np.cos(theta)]
    np.testing.assert_allclose(end[[0, 2]], expected, atol=1e-6)
  np.testing.assert_allclose(scene.geom('pole').size[1], 0.3)
  np.testing.assert_allclose(scene.geom('goal').pos, [0, 0, 0.6])


def test_doing_nothing_pays_minus_one_a_step():
  env = envs.make('cartpole_swingup')
  state = jax.vmap(env.reset)(jax.random.split(jax.random.PRNGKey(0), 20))

  def step(state, _):
    state = jax.vmap(env.step)(state, jnp.zeros((20, 1)))
    return state, state.reward

  _, rewards = jax.lax.scan(step, state, length=env.max_episode_steps)
  assert rewards.shape == (25, 20)
  # Euler's method swings a hanging pole up a little by itself.
  np.testing.assert_allclose(rewards[:10], -1, atol=1e-3)
  assert -1 <= np.mean(rewards) < -0.95
