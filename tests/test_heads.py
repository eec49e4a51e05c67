"""What members predict beside the observation, and starts remembered."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import grbal
from mbmpo_jax.models import grbal_config
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import recurrent
from mbmpo_jax.models import recurrent_config
from mbmpo_jax.models import starts
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import terminations
from mbmpo_jax.rollouts import buffer as buffer_lib
from tests import jitted
from tests import tiny

_BOTH = dict(predict_reward=True, predict_done=True)
_STATISTICS = jax.jit(functools.partial(statistics_lib.fit, clip_margin=0.5))


def _data(seed: int = 0, rows: int = 20):
  random = np.random.default_rng(seed)
  obs, action = random.normal(size=(rows, 3)), random.normal(size=(rows, 2))
  next_obs = obs + 0.3 * random.normal(size=obs.shape) + 1
  reward = 5 + 2 * random.normal(size=rows)
  done = (random.uniform(size=rows) > 0.7).astype(float)
  return obs, action, next_obs, reward, done


def _numpy(params, member, x):
  """The network of `ensemble.py`, written once more."""
  for index, layer in enumerate(params):
    v, g, b = (np.asarray(layer[name][member]) for name in 'vgb')
    if index:
      x = np.maximum(x, 0)
    x = x @ (v * g / np.sqrt((v**2).sum(0))) + b
  return x


@pytest.fixture
def fitted(x64):
  obs, action, next_obs, reward, _ = _data()
  inputs = np.concatenate([obs, action], -1)
  statistics = _STATISTICS(
    *(jnp.asarray(x) for x in (inputs, next_obs - obs, next_obs)),
    jnp.ones(len(obs)),
    reward=jnp.asarray(reward),
  )
  params = jitted.init(
    jax.random.PRNGKey(0), 5, 3 + 2, hidden_sizes=(7,), num_models=2
  )
  return params, statistics


def test_loss_has_an_entropy_for_terminations(fitted):
  params, _ = fitted
  random = np.random.default_rng(1)
  inputs, weight = random.normal(size=(6, 5)), random.uniform(size=6)
  targets = random.normal(size=(6, 5))
  targets[:, 4] = [0, 1, 1, 0, 0, 1]
  output = _numpy(params, 1, inputs)
  chance = 1 / (1 + np.exp(-output[:, 4]))
  entropy = -np.log(np.where(targets[:, 4] == 1, chance, 1 - chance))
  squares = (output[:, :4] - targets[:, :4]) ** 2
  expected = ((squares.sum(-1) + entropy) / 5 * weight).sum()
  loss = jax.jit(functools.partial(ensemble.loss, predict_done=True))
  found = loss(
    jax.tree.map(lambda x: x[1], params),
    *(jnp.asarray(x) for x in (inputs, targets, weight)),
  )
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_rewards_and_terminations_are_predicted_in_their_units(fitted):
  params, statistics = fitted
  model = jitted.fold(params, statistics, **_BOTH)
  obs, action, next_obs, reward, _ = _data()
  inputs = np.concatenate([obs, action], -1)
  output = _numpy(params, 0, (inputs - inputs.mean(0)) / inputs.std(0))
  expected = reward.mean() + reward.std() * output[:, 3]
  width = 0.5 * np.ptp(reward)
  expected = np.clip(expected, reward.min() - width, reward.max() + width)
  delta = next_obs - obs
  moved = obs + delta.mean(0) + delta.std(0) * output[:, :3]
  margin = 0.5 * np.ptp(next_obs, axis=0)
  moved = np.clip(moved, next_obs.min(0) - margin, next_obs.max(0) + margin)
  _, found = jitted.predict(
    jax.tree.map(lambda x: x[0], model),
    (),
    jnp.asarray(obs),
    jnp.asarray(action),
    **_BOTH,
  )
  tiny.assert_close(found.reward, expected)
  tiny.assert_close(found.next_obs, moved)
  np.testing.assert_array_equal(found.terminated, output[:, 4] > 0)


def test_a_reward_stays_within_what_was_paid(fitted):
  params, statistics = fitted
  model = jitted.fold(params, statistics, **_BOTH)
  far = 1e4 * jnp.ones((2, 3))
  _, found = jitted.predict(
    jax.tree.map(lambda x: x[0], model),
    (),
    jnp.stack([far[0], -far[0]]),
    jnp.zeros((2, 2)),
    **_BOTH,
  )
  reward = _data()[3]
  width = 0.5 * np.ptp(reward)
  assert np.all(found.reward <= reward.max() + width)
  assert np.all(found.reward >= reward.min() - width)


def _recurrent(env: envs.Environment) -> Any:
  section = recurrent_config.Ensemble(num_models=1, hidden_sizes=(4,))
  return recurrent.make(env, section, length=0, units=4)


def _grbal(env: envs.Environment) -> Any:
  section = grbal_config.Ensemble(num_models=1, hidden_sizes=(4,))
  return grbal.make(
    env, section, adapt_steps=2, inner_lr=0.1, predict_reward=True
  ).dynamics


@pytest.mark.parametrize('make', [_recurrent, _grbal])
def test_other_models_bound_rewards_alike(make):
  """The network's output is standardised by a deviation of 1e6."""
  dynamics = make(envs.make('point'))
  obs, action, next_obs, reward, _ = map(jnp.asarray, _data())
  obs, next_obs = obs[:, :2], next_obs[:, :2]
  inputs = jnp.concatenate([obs, action], -1)
  statistics = _STATISTICS(
    inputs, next_obs - obs, next_obs, jnp.ones(len(obs)), reward=reward
  )
  moments = normalizer.Moments(jnp.zeros(1), jnp.full(1, 1e6))
  model = jax.jit(dynamics.ready)(
    jax.jit(dynamics.init)(jax.random.PRNGKey(0)),
    statistics._replace(reward=moments),
  )
  _, found = jax.jit(dynamics.predict)(
    jax.tree.map(lambda x: x[0], model), (), obs, action, jax.random.PRNGKey(1)
  )
  width = 0.5 * jnp.ptp(reward)
  np.testing.assert_allclose(
    sorted(set(np.asarray(found.reward).tolist())),
    [reward.min() - width, reward.max() + width],
    rtol=1e-6,
  )


def test_before_data_a_member_is_sound():
  """Otherwise every fit would draw it anew."""
  blank = statistics_lib.identity(5, 3)
  params = jitted.init(
    jax.random.PRNGKey(0), 5, 3 + 2, hidden_sizes=(7,), num_models=2
  )
  model = jitted.fold(params, blank, **_BOTH)
  assert all(np.all(abs(x) <= 1e6) for x in jax.tree.leaves(model))


def test_accuracy_counts_both_kinds_alike():
  """One member never sees an end, the other always does, a third is right."""
  section = config_lib.Ensemble(
    num_models=3, hidden_sizes=(4,), predict_done=True
  )
  env = envs.make('point')
  dynamics = ensemble.make(env, section)
  params = jax.jit(dynamics.init)(jax.random.PRNGKey(0))
  model = jax.jit(dynamics.ready)(params, statistics_lib.identity(4, 2))
  (weight, bias), (last, constant) = model.layers
  # The log-odds are 20 relu(x) - 10 of the first observation, or constant.
  weight = jnp.zeros_like(weight).at[2, 0, 0].set(1.0)
  last = jnp.zeros_like(last).at[2, 0, 2].set(20.0)
  constant = jnp.zeros_like(constant).at[:, 2].set(jnp.array([-1, 1, -10.0]))
  model = model._replace(layers=((weight, 0 * bias), (last, constant)))
  ring = buffer_lib.init_transitions(50, 2, 2)
  ended = jnp.arange(40) % 8 == 0
  rows = jax.tree.map(
    lambda x: jnp.zeros((40, *x.shape[1:]), x.dtype), ring.data
  )
  rows = rows._replace(
    obs=rows.obs.at[:, 0].set(jnp.where(ended, 1.0, -1.0)),
    terminated=ended.astype(float),
  )
  ring = jax.jit(buffer_lib.add)(ring, rows)
  accuracy = jax.jit(functools.partial(terminations.accuracy, dynamics))
  found = accuracy(model, ring, jax.random.PRNGKey(1))
  np.testing.assert_allclose(found, (0.5 + 0.5 + 1) / 3, rtol=1e-6)
  never = ring._replace(
    data=ring.data._replace(terminated=jnp.zeros_like(ring.data.terminated))
  )
  found = accuracy(model, never, jax.random.PRNGKey(1))
  assert 1 / 3 < found < 1  # Of the rows that do not end alone.


def test_starts_are_drawn_uniformly_from_those_that_were_seen():
  obs = jnp.arange(200.0)[:, None]
  first = (jnp.arange(200) % 4 == 0).astype(float)
  choose = jax.vmap(
    lambda key: starts.choose(obs, first, key, count=10).obs[:, 0]
  )
  chosen = jax.jit(choose)(jax.random.split(jax.random.PRNGKey(0), 500))
  rows, counts = np.unique(chosen, return_counts=True)
  np.testing.assert_array_equal(rows, np.arange(0, 200, 4))
  # 5000 draws of 50: 100 each, of deviation about 9.
  assert counts.min() > 60 and counts.max() < 140
  assert all(len(set(row)) == 10 for row in chosen.tolist())


def test_what_is_no_start_is_never_drawn():
  section = config_lib.Ensemble(num_models=2, hidden_sizes=(4,))
  env = envs.make('point')
  dynamics = starts.remembering(
    ensemble.make(env, section), num_models=2, observation_size=2
  )
  params = jax.jit(dynamics.init)(jax.random.PRNGKey(0))
  obs = jnp.array([[1.0, 1.0], [9.0, 9.0], [2.0, 2.0]])
  chosen = jax.jit(functools.partial(starts.choose, count=starts.COUNT))(
    obs, jnp.array([1.0, 0, 1]), jax.random.PRNGKey(0)
  )
  statistics = statistics_lib.identity(4, 2)._replace(starts=chosen)
  model = jax.jit(dynamics.ready)(params, statistics)
  blank = jax.eval_shape(dynamics.ready, params, statistics_lib.identity(4, 2))
  assert jax.tree.map(jnp.shape, model) == jax.tree.map(jnp.shape, blank)
  one = jax.tree.map(lambda x: x[1], model)
  draw = jax.jit(lambda one, key: starts.draw(env, dynamics, one, key, (3, 40)))
  drawn = draw(one, jax.random.PRNGKey(1))
  assert drawn.shape == (3, 40, 2)
  assert set(np.unique(drawn)) == {1.0, 2.0}


def test_a_constant_reward_is_predicted_as_it_is():
  moments = normalizer.fit(jnp.ones((9, 1)), jnp.ones(9))
  statistics = statistics_lib.identity(5, 3)._replace(reward=moments)
  params = jitted.init(
    jax.random.PRNGKey(0), 5, 4, hidden_sizes=(7,), num_models=1
  )
  model = jitted.fold(params, statistics, predict_reward=True)
  _, found = jitted.predict(
    jax.tree.map(lambda x: x[0], model),
    (),
    jax.random.normal(jax.random.PRNGKey(1), (4, 3)),
    jnp.zeros((4, 2)),
    predict_reward=True,
  )
  np.testing.assert_array_equal(found.reward, 1.0)
