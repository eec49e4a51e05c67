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


def test_it_keeps_the_contract():
  envs.check_environment(cartpole_swingup.CartpoleSwingup())
