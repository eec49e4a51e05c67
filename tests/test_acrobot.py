"""The acrobot against Gymnasium's, step by step, and its goal."""

import math

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.envs import acrobot
from mbmpo_jax.models.neural_process import sets


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


def test_a_full_turn_is_no_jump():
  """The change goes the shorter way, and leads to the next observation."""
  env = envs.make('acrobot', tell_task=True)
  before = jnp.asarray([3.1, -3.1, 5.0, -5.0, 0.9, 1.1])
  after = jnp.asarray([-3.1, 3.1, 4.0, -5.0, 0.9, 1.1])
  change = env.change(before, after)
  turn = 2 * math.pi - 6.2
  np.testing.assert_allclose(
    change, [turn, -turn, -1.0, 0.0, 0.0, 0.0], atol=1e-6
  )
  np.testing.assert_allclose(env.project(before + change), after, atol=1e-6)
  beyond = env.project(before.at[2:4].set(jnp.asarray([20.0, -40.0])))
  np.testing.assert_allclose(beyond[2:4], [4 * math.pi, -9 * math.pi])


@pytest.mark.parametrize('target', ['delta', 'next'])
def test_what_a_model_learns_of_a_full_turn(target):
  """Of two steps that are nearly the same, nearly the same; none of 2 pi."""
  env = envs.make('acrobot')
  obs = jnp.asarray([[3.13, 0.0, 1.0, 0.0], [3.1, 0.0, 1.0, 0.0]])
  moved = jnp.asarray([[0.02, 0.0, 0.0, 0.0]])
  rows = types.Transition(
    obs=obs,
    action=jnp.zeros((2, 3)),
    reward=jnp.zeros(2),
    next_obs=env.project(obs + moved),
    terminated=jnp.zeros(2),
    truncated=jnp.zeros(2),
    episode=jnp.zeros(2, jnp.int32),
    time=jnp.zeros(2, jnp.int32),
  )
  assert rows.next_obs[0, 0] < 0 < rows.next_obs[1, 0]
  points = sets.of_transitions(
    rows,
    jnp.ones(2),
    model_input=env.model_input,
    target=target,
    change=env.change,
  )
  expected = moved if target == 'delta' else obs + moved
  np.testing.assert_allclose(
    points.y, jnp.broadcast_to(expected, (2, 4)), atol=1e-6
  )


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
