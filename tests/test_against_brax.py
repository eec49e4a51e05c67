"""Ours against brax's trainers: how they are matched, and that ours keep up."""

import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import against_brax
from benchmarks import fresh_resets
from benchmarks import opponents
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.rollouts import real


@pytest.mark.parametrize(
  ('sizes', 'length'),
  [((20, 200, 16), 50), ((16, 128, 16), 128), ((4, 10, 4), 10), ((1, 7, 7), 1)],
)
def test_sequences_are_as_long_as_their_number_allows(sizes, length):
  """Minibatches hold equally many, and they fill an iteration."""
  num_envs, steps, num_minibatches = sizes
  found = opponents.sequence_length(*sizes)
  assert found == length
  assert num_envs * steps // found % num_minibatches == 0


def test_a_policy_of_brax_acts_by_a_key_for_each_world():
  """Its actions reach the world projected."""
  env = envs.make('point')

  def make_policy(params):
    def act(obs, key):
      return 3 * obs + params * jax.random.normal(key, obs.shape), {}

    return act

  policy = opponents.as_policy(make_policy, env)
  play = jax.jit(
    lambda params: real.rollout(
      env, policy, params, jax.random.PRNGKey(0), num_envs=4, horizon=6
    )[0]
  )
  still = play(0.0)
  np.testing.assert_allclose(still.action, 3 * still.obs, rtol=1e-6)
  np.testing.assert_array_equal(still.env_action, np.clip(still.action, -1, 1))
  noise = play(1.0).action - 3 * play(1.0).obs
  assert len(np.unique(noise.round(5))) == noise.size


def test_every_episode_of_brax_begins_anew():
  """In each environment, and never where one began before."""
  env = fresh_resets.wrap(envs.make('point'), episode_length=3)
  keys = jax.random.split(jax.random.PRNGKey(0), 2)

  def step(state, _):
    before = state.obs
    state = env.step(state, jnp.zeros((2, 2)))
    return state, (before, state.done)

  _, (obs, done) = jax.jit(
    lambda keys: jax.lax.scan(step, env.reset(keys), length=12)
  )(keys)
  np.testing.assert_array_equal(done[2::3], 1)
  starts = np.asarray(obs)[::3]
  # Without an action a point stays where it is.
  np.testing.assert_array_equal(starts, np.asarray(obs)[1::3])
  assert len(np.unique(starts.reshape(-1, 2).round(6), axis=0)) == 8


def test_what_brax_cannot_do_is_refused():
  path = against_brax._CONFIGS / 'sac' / 'point.py'
  config = runpy.run_path(str(path))['get_config']()
  config = config_lib.replaced(config, {'learn.update_every': 5})
  with pytest.raises(config_lib.ConfigError, match='update_every=5: must be 1'):
    opponents.sac(config)
  with pytest.raises(config_lib.ConfigError, match='--env=moon: must be one'):
    against_brax.make_config('ppo', 'moon', 'quick')


@pytest.mark.slow
@pytest.mark.parametrize('method', ['ppo', 'sac'])
def test_ours_learn_the_point_as_well_as_brax_do(method):
  """With the same numbers, seeds and budget, by our evaluation."""
  found = against_brax.run(method, 'point', 'paper', range(3))['summary']
  assert found['not_below']
  assert found['mean_return']['ours'] > -25  # At random it is -83.
