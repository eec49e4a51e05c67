"""The acrobot against Gymnasium's, step by step, and its goal."""

import math

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.envs import acrobot


@pytest.mark.parametrize('masses', [(1.0, 1.0), (0.85, 1.15)])
def test_steps_are_gymnasiums(x64, masses):
  """From gentle and from violent states, whose angles and speeds are cut."""
  theirs = gymnasium.make('Acrobot-v1').unwrapped
  theirs.LINK_MASS_1, theirs.LINK_MASS_2 = masses
  theirs.reset(seed=0)
  env = acrobot.Acrobot(masses)
  step = jax.jit(env.step)
  rng = np.random.default_rng(0)
  start = env.reset(jax.random.PRNGKey(0))
  cut = goals = 0
  for width in ([0.1] * 4, [math.pi, math.pi, 12.0, 28.0]):
    for _ in range(10):
      expected = rng.uniform(-1, 1, 4) * width
      theirs.state = expected
      state = start.replace(
        pipeline_state=jnp.asarray(expected), obs=jnp.asarray(expected)
      )
      for choice in rng.integers(0, 3, 20):
        if theirs._terminal():
          break
        _, reward, terminated, _, _ = theirs.step(choice)
        cut += np.any(np.abs(theirs.state[2:]) >= [4 * math.pi, 9 * math.pi])
        goals += terminated
        state = step(state, jax.nn.one_hot(choice, 3))
        np.testing.assert_allclose(
          state.obs, theirs.state, rtol=1e-8, atol=1e-9
        )
        assert state.reward == reward
  assert cut > 5 and goals > 2


@pytest.mark.parametrize(('variant', 'done'), [(None, 0), ('terminating', 1)])
def test_after_the_goal_nothing_is_paid_and_nothing_moves(variant, done):
  env = envs.make('acrobot', variant)
  assert env.can_terminate == done
  assert env.max_episode_steps == 200
  upright = jnp.asarray([3.0, 0.1, 0.0, 0.0])
  hanging = jnp.asarray([0.1, 0.0, 0.0, 0.0])
  action = jnp.asarray([0.0, 0.0, 1.0])
  assert env.reward(hanging, action, upright) == 0
  assert env.reward(upright, action, hanging) == -1
  assert env.done(upright) == done and env.done(hanging) == 0
  state = env.reset(jax.random.PRNGKey(0))
  at_goal = state.replace(
    pipeline_state=state.pipeline_state._replace(state=upright), obs=upright
  )
  for _ in range(3):
    at_goal = env.step(at_goal, action)
    np.testing.assert_array_equal(at_goal.obs, upright)
    assert at_goal.reward == 0
  assert np.any(env.step(state, action).obs != state.obs)


def test_the_torque_is_the_choice():
  """No, left and right: what is not one-hot is the largest number's choice."""
  env = acrobot.Acrobot()
  state = env.reset(jax.random.PRNGKey(0))
  state = state.replace(pipeline_state=jnp.zeros(4), obs=jnp.zeros(4))
  bends = [
    float(env.step(state, jnp.asarray(action)).obs[3])
    for action in ([0.5, 0.1, 0.2], [0.0, 9.0, 1.0], [-1.0, -1.0, 0.0])
  ]
  assert bends[0] < 0 == bends[1] < bends[2]


def test_it_is_drawn_where_its_tip_is(x64):
  env = envs.make('acrobot')
  scene = env.scene()
  data = mujoco.MjData(scene)
  state = env.reset(jax.random.PRNGKey(0)).pipeline_state
  for angle, bend in ((0.0, 0.0), (0.7, -1.2), (2.5, 1.0)):
    pose = env.pose(state._replace(state=jnp.asarray([angle, bend, 1.0, 2.0])))
    data.qpos = pose.qpos
    mujoco.mj_forward(scene, data)
    height = -np.cos(angle) - np.cos(angle + bend)
    np.testing.assert_allclose(data.site('tip').xpos[2], height, atol=1e-6)
