"""Action spaces: boxes and choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from tests import tiny


def test_box_samples_uniformly_and_clips():
  box = envs.Box(3)
  key = jax.random.PRNGKey(0)
  drawn = box.sample(key, (50, 40))
  assert drawn.shape == (50, 40, 3)
  expected = jax.random.uniform(key, (50, 40, 3), float, -1.0, 1.0)
  np.testing.assert_array_equal(drawn, expected)
  box.check(drawn)
  np.testing.assert_array_equal(
    box.project(jnp.asarray([2.0, -0.5, -9.0])), [1, -0.5, -1]
  )
  np.testing.assert_allclose(box.log_prob_uniform, np.log(1 / 8))


def test_choices_are_one_hot():
  space = envs.Discrete(4)
  drawn = space.sample(jax.random.PRNGKey(0), (4000,))
  space.check(drawn)
  np.testing.assert_allclose(np.mean(drawn, 0), 0.25, atol=0.03)
  np.testing.assert_array_equal(
    space.project(jnp.asarray([[0.1, 0.7, 0.2, 0.3], [9.0, 1, 1, 1]])),
    [[0, 1, 0, 0], [1, 0, 0, 0]],
  )
  np.testing.assert_allclose(np.exp(space.log_prob_uniform), 0.25)


@pytest.mark.parametrize(
  ('space', 'actions', 'message'),
  [
    (envs.Box(2), [[0.0, 1.5]], r'\[0.0, 1.5\]: must be within \[-1, 1\]'),
    (envs.Box(2), [[0.0, np.nan]], r'must be within'),
    (envs.Box(2), [0.0, 0.0, 0.0], r'have shape \[3\]: must end in 2'),
    (envs.Discrete(2), [[0.5, 0.5]], 'must be a one-hot vector of 2 choices'),
    (envs.Discrete(2), [[1.0, 1.0]], 'must be a one-hot vector of 2 choices'),
  ],
)
def test_what_is_not_an_action_is_refused(space, actions, message):
  with pytest.raises(ValueError, match=message):
    space.check(np.asarray(actions))


class Choices(tiny.Countdown):
  """Counts up by the choice made: 1, 2 or 3."""

  action_size = 3
  action_space = envs.Discrete(3)

  def advance(self, pipeline_state, action):
    return pipeline_state + 1 + action @ jnp.arange(3.0)

  def reward(self, obs, action, next_obs):
    return action @ jnp.arange(3.0)


def test_a_step_takes_the_largest_for_the_choice():
  env = Choices()
  state = env.reset(jax.random.PRNGKey(0))
  after = env.step(state, jnp.asarray([0.2, -5.0, 0.3]))
  assert float(after.obs[0] - state.obs[0]) == 3
  assert float(after.reward) == 2


def test_a_world_of_choices_keeps_the_contract():
  envs.check_environment(Choices())
