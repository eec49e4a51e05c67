"""What keeps MB-MPO from believing its models, piece by piece.

The adaptation that is bounded in KL is in `test_maml.py`.
"""

import functools
import json
import math
import pathlib
import types
import warnings

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types as types_lib
from mbmpo_jax.algorithms import base as algorithms
from mbmpo_jax.algorithms.acktr import config as acktr
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.algorithms.mbmpo import meta_step
from mbmpo_jax.algorithms.mbmpo import metrics as metrics_lib
from mbmpo_jax.algorithms.mbmpo import task_rollouts
from mbmpo_jax.models import base as models
from mbmpo_jax.models import disagreement
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import starts
from mbmpo_jax.policies import gaussian
from mbmpo_jax.policies import mean_network
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real as rollouts_lib
from mbmpo_jax.training import promises
from mbmpo_jax.training import ratios
from tests import tiny


def _transitions(count: int, seed: int = 0) -> types_lib.Transition:
  rng = np.random.default_rng(seed)
  return types_lib.Transition(
    obs=rng.normal(size=(count, 2)).astype(np.float32),
    action=rng.uniform(-1, 1, (count, 2)).astype(np.float32),
    reward=np.zeros(count, np.float32),
    next_obs=rng.normal(size=(count, 2)).astype(np.float32),
    terminated=np.zeros(count, np.float32),
    truncated=np.zeros(count, np.float32),
    episode=np.zeros(count, np.int32),
    time=np.arange(count, dtype=np.int32),
  )


# --- rollouts that begin at states of the buffer


@pytest.mark.parametrize('filled', [2, 5, 12])
def test_the_newest_rows_alone_are_drawn(filled):
  """Of a ring of 5 that may have wrapped; all of what there is, no more."""
  buffer = buffer_lib.init_transitions(5, 2, 2)
  for index in range(filled):
    row = _transitions(1)._replace(time=np.array([index], np.int32))
    buffer = buffer_lib.add(buffer, row)
  drawn = buffer_lib.sample_newest(
    buffer, jax.random.PRNGKey(0), count=200, newest=3
  )
  expected = range(max(0, filled - 3), filled)
  assert set(np.asarray(drawn.time).tolist()) == set(expected)


def test_a_share_begins_in_the_middle():
  resets = jnp.zeros((6, 2))
  seen = jnp.arange(1.0, 9.0).reshape(4, 2).at[0].set(jnp.nan)
  drawn = np.stack(
    [
      starts.among_seen(resets, seen, jax.random.PRNGKey(i), count=4)
      for i in range(20)
    ]
  )
  assert np.all(drawn[:, 4:] == 0)
  found = {tuple(row) for row in drawn[:, :4].reshape(-1, 2).tolist()}
  # What is not finite leaves the reset in its place.
  assert found == {(0.0, 0.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0)}


@pytest.fixture(scope='module')
def shared():
  """A third of the rollouts of `point`, which resets within a square."""
  config = tiny.point_config(model_rollouts__buffer_starts=0.34)
  env = envs.make('point')
  algorithm = mbmpo.make(env, config, check=False)
  state = jax.jit(algorithm.init)(
    jax.random.PRNGKey(0), algorithms.hyper(config)
  )
  return env, config, algorithm, state


def test_imagination_begins_there(shared):
  env, config, _, state = shared
  policy = gaussian.make(2, 2, config.policy)
  meta = meta_step.make(env, config, policy, ensemble.make(env, config.model))
  seen = jnp.full((7, 2), 50.0) + jnp.arange(7.0)[:, None]

  @jax.jit
  def imagine(state, seen):
    rollouts = meta.rollout(
      state.policy,
      state.model,
      state.hyper,
      jax.random.PRNGKey(1),
      per_task=False,
      seen=seen,
    )
    weight = jnp.full((2, 2), 0.25)
    return rollouts, [
      task_rollouts.episode_means(rollouts, weight, num_seen=n)[0]
      for n in (0, 1, 3)
    ]

  rollouts, means = imagine(state, seen)
  first = np.asarray(rollouts.trajectory.obs)[:, :, 0]  # [K, P, N, O]
  assert np.all(first[:, :, 0] >= 50)
  assert np.all(abs(first[:, :, 1:]) < 10)
  # Returns are of those that begin as real episodes do, if there are any.
  reward = np.sum(np.asarray(rollouts.trajectory.reward), 2).mean((0, 1))
  np.testing.assert_allclose(
    means, [reward.mean(), reward[1:].mean(), reward.mean()], rtol=1e-5
  )


def test_it_learns_from_there_and_refuses_an_empty_buffer(shared):
  _, _, algorithm, state = shared
  improve = algorithm.phases['improve']
  message = r'model_rollouts\.buffer_starts=0\.34: must be 0 while the buffer'
  with pytest.raises(config_lib.ConfigError, match=message):
    improve(state)
  # What is traced cannot refuse: it begins at resets.
  _, resets = jax.jit(improve)(state)
  assert resets['meta/rejected_tasks'] == 0
  filled = buffer_lib.add(state.buffer, _transitions(20))
  after, metrics = jax.jit(improve)(state._replace(buffer=filled))
  assert metrics['meta/rejected_tasks'] == 0
  assert metrics['meta/accept_rate'] > 0
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(after.policy))


def test_the_newest_states_of_the_buffer_are_the_starts():
  """All rollouts begin there; the point's reward is minus its distance^2."""
  config = tiny.point_config(
    model_rollouts__buffer_starts=1.0,
    model_rollouts__newest_starts=3,
    model_rollouts__horizon=1,
    meta__num_meta_steps=1,
  )
  algorithm = mbmpo.make(envs.make('point'), config, check=False)
  state = algorithm.init(jax.random.PRNGKey(0), algorithms.hyper(config))
  where = np.where(np.arange(20) < 17, 1.0, 100.0)[:, None]
  rows = _transitions(20)._replace(obs=np.broadcast_to(where, (20, 2)).copy())
  state = state._replace(buffer=buffer_lib.add(state.buffer, rows))
  _, metrics = jax.jit(algorithm.phases['improve'])(state)
  assert metrics['imagined/return_pre'] == pytest.approx(-20_000, rel=1e-4)
  # Real episodes begin elsewhere, so nothing is promised of them.
  assert np.isnan(metrics['imagined/promise'])


# --- meta-steps that end when the models disagree


def _improve(keys: jax.Array, **overrides):
  """Policies and metrics after the meta-steps of iterations with these keys."""
  config = tiny.point_config(trust_region__max_kl=0.3, **overrides)
  algorithm = mbmpo.make(envs.make('point'), config, check=False)
  init = jax.jit(algorithm.init)
  state = init(jax.random.PRNGKey(0), algorithms.hyper(config))

  def improve(key):
    counters = state.counters._replace(key=key)
    after, metrics = algorithm.phases['improve'](
      state._replace(counters=counters)
    )
    return after.policy, metrics

  policies, metrics = jax.jit(jax.vmap(improve))(keys)
  assert set(metrics) <= set(algorithm.metrics)
  return state.policy, policies, metrics


def test_an_iteration_keeps_the_policy_of_its_last_passed_validation():
  """To the bit that of an iteration with so many steps, without validation."""
  keys = jax.random.split(jax.random.PRNGKey(3), 12)
  start, policies, metrics = _improve(
    keys,
    meta__stopping='validation',
    meta__num_meta_steps=2,
    meta__validate_every=1,
    meta__patience=1,
    meta__worsened_fraction=0.0,
  )
  _, after_two, without = _improve(keys, meta__num_meta_steps=2)
  assert set(metrics) - set(without) == set(metrics_lib.VALIDATION)
  kept = np.asarray(metrics['meta/kept_step']).astype(int)
  assert {0, 2} <= set(kept)
  trees = map(jax.tree.leaves, (policies, start, after_two))
  for policy, none, two in zip(*trees, strict=True):
    policy, none, two = map(np.asarray, (policy, none, two))
    np.testing.assert_array_equal(policy[kept == 2], two[kept == 2])
    np.testing.assert_array_equal(
      policy[kept == 0], np.broadcast_to(none, policy[kept == 0].shape)
    )
  steps = np.minimum(kept + 1, 2)  # the first failure ends it
  np.testing.assert_array_equal(metrics['meta/steps'], steps)
  np.testing.assert_array_equal(metrics['validation/passed'], kept)
  np.testing.assert_array_equal(metrics['validation/failed'], steps - kept)
  # 4 tasks, 3 rollouts of 10 steps before and after adaptation.
  np.testing.assert_array_equal(
    metrics['imagined_steps'], (steps + steps + 1) * 4 * 2 * 3 * 10
  )


def test_every_round_of_meta_steps_ends_with_a_validation():
  config = tiny.point_config(
    meta__stopping='validation', meta__num_meta_steps=7
  )
  message = r'meta\.num_meta_steps=7: must be a multiple of 5, meta\.validate'
  with pytest.raises(config_lib.ConfigError, match=message):
    config.check()


def test_a_validation_is_the_return_of_the_policies_adapted_in_each_member(
  shared,
):
  """From resets, whatever share of the rollouts starts in the buffer."""
  env, config, _, state = shared
  policy = gaussian.make(2, 2, config.policy)
  meta = meta_step.make(env, config, policy, ensemble.make(env, config.model))
  key = jax.random.PRNGKey(5)

  @jax.jit
  def both(state):
    args = state.policy, state.model, state.hyper, key
    return meta.validate(*args), meta.sample(*args).post.trajectory

  validated, trajectory = both(state)
  by_hand = np.sum(np.asarray(trajectory.reward), 2).mean((1, 2))
  assert validated.shape == (2,) and by_hand[0] != by_hand[1]
  np.testing.assert_allclose(validated, by_hand, rtol=1e-5)
  (weight, bias), *layers = state.model.layers
  layers = ((weight.at[1].set(jnp.nan), bias), *layers)
  broken = state._replace(model=state.model._replace(layers=layers))
  np.testing.assert_array_equal(np.isnan(both(broken)[0]), [False, True])


def test_adaptation_is_bounded_where_the_algorithm_adapts():
  """In imagination and on real rollouts; policies that are not adapted collect.

  With a bound that is active, a larger step size changes nothing.
  """
  config = tiny.point_config(
    collect__policy='meta',
    meta__max_inner_kl=1e-4,
    meta__num_meta_steps=1,
  )
  algorithm = mbmpo.make(envs.make('point'), config, check=False)
  state = algorithm.init(jax.random.PRNGKey(0), algorithms.hyper(config))
  rollouts, _ = jax.jit(
    functools.partial(
      rollouts_lib.rollout,
      envs.make('point'),
      algorithm.policy,
      num_envs=5,
      horizon=10,
    )
  )(state.policy, jax.random.PRNGKey(1))
  adapt = jax.jit(algorithm.adapt)

  def moved(inner_lr: float) -> np.ndarray:
    hyper = {**state.hyper, 'meta.inner_lr': jnp.asarray(inner_lr)}
    own = state._replace(hyper=hyper)
    params, _ = adapt(own, rollouts, jax.random.PRNGKey(2))
    flat = [jax.flatten_util.ravel_pytree(x)[0] for x in (params, own.policy)]
    return np.asarray(flat[0] - flat[1])

  assert np.max(abs(moved(1.0))) > 1e-5
  np.testing.assert_allclose(moved(1e4), moved(1.0), rtol=1e-3, atol=1e-6)

  own = state._replace(hyper={**state.hyper, 'meta.inner_lr': jnp.float32(1)})
  _, metrics = jax.jit(algorithm.phases['improve'])(own)
  # The bound is of the second order.
  assert metrics['meta/plasticity'] == pytest.approx(1e-4, rel=0.05)
  assert metrics['imagined/promise'] == metrics['imagined/return_pre']
  assert metrics['imagined/return_pre'] != metrics['imagined/return_post']


# --- settings that contradict each other


def test_contradictions_are_refused():
  config = tiny.point_config(meta__max_inner_kl=0.01, meta__inner_lr=0.0)
  with pytest.raises(config_lib.ConfigError, match=r'meta\.max_inner_kl=0\.01'):
    config.check()
  # Of 3 rollouts per task.
  few = tiny.point_config(model_rollouts__buffer_starts=0.1)
  with pytest.raises(config_lib.ConfigError, match=r'buffer_starts=0\.1: must'):
    few.check()
  factors = acktr.Config()
  factors.policy.bound_mean = True
  with pytest.raises(config_lib.ConfigError, match=r'policy\.bound_mean=True'):
    factors.check()


# --- means within the bounds


def test_a_bounded_mean_of_a_flax_network():
  """tanh of the mean that the same parameters give without a bound."""
  obs = 30 * jax.random.normal(jax.random.PRNGKey(0), (7, 3))
  free = mean_network.Gaussian(2, (8,), 0.5)
  bounded = mean_network.Gaussian(2, (8,), 0.5, bound_mean=True)
  params = free.init(jax.random.PRNGKey(1), obs)
  mean = np.asarray(free.apply(params, obs).mode(), np.float64)
  assert np.max(abs(mean)) > 1
  np.testing.assert_allclose(
    bounded.apply(params, obs).mode(), np.tanh(mean), rtol=1e-5
  )


def test_a_bounded_mean(x64):
  """Acting and learning, against tanh of the reference's mean."""
  rng = np.random.default_rng(0)
  params = reference.make_params(rng, (3, 5, 4, 2))
  obs = 3 * rng.normal(size=(4, 6, 3))
  policy = gaussian.make(3, 2, config_lib.GaussianPolicy(bound_mean=True))
  expected = np.tanh(reference.mean(params, obs.reshape(-1, 3)))
  assert np.max(abs(expected)) > 0.7
  ours = jax.tree.map(jnp.asarray, params)
  acted = policy.distribution(ours, (), jnp.asarray(obs))
  np.testing.assert_allclose(
    acted.mean.reshape(-1, 2), expected, rtol=1e-12, atol=1e-12
  )
  nothing = jnp.zeros((4, 6))
  trajectory = types_lib.Trajectory(
    obs=jnp.asarray(obs),
    action=jnp.zeros((4, 6, 2)),
    env_action=jnp.zeros((4, 6, 2)),
    log_prob=nothing,
    reward=nothing,
    next_obs=jnp.asarray(obs),
    terminated=nothing,
    mask=nothing,
  )

  def total(params):
    return jnp.sum(jnp.sin(policy.over(params, trajectory).mode()))

  def of_vector(vector):
    tree = reference.unflatten(vector, params)
    return np.sum(np.sin(np.tanh(reference.mean(tree, obs.reshape(-1, 3)))))

  theta = reference.flatten(params)
  np.testing.assert_allclose(total(ours), of_vector(theta), rtol=1e-12)
  slope = jax.tree.map(np.asarray, jax.grad(total)(ours))
  np.testing.assert_allclose(
    reference.flatten(slope),
    reference.jacobian(of_vector, theta),
    rtol=1e-10,
    atol=1e-12,
  )


# --- what the members disagree about


def test_disagreement(x64):
  """Of members that add what is theirs, against NumPy."""
  offsets = np.array([[0.0, 1.0], [0.5, -1.0], [1.0, 3.0]])

  def predict(model, carry, obs, env_action, key):
    del key
    return carry, models.Prediction(obs + model[None] * env_action)

  dynamics = models.Dynamics(
    init=lambda key: key,
    ready=lambda *args: args,
    start=lambda *args: (),
    predict=predict,
    loss=lambda *args: jnp.zeros(()),
  )
  rows = jax.tree.map(np.float64, _transitions(9))
  rows.obs[4, 0] = np.nan  # left out
  # The second dimension never changes, and counts for nothing.
  rows.next_obs[:, 1] = rows.obs[:, 1]
  kept = np.arange(9) != 4
  predicted = rows.obs[kept] + offsets[:, None] * rows.action[kept]
  change = (rows.next_obs - rows.obs)[kept, 0]
  expected = np.sqrt(np.mean(np.var(predicted, 0)[:, 0]) / np.var(change))
  actual = disagreement.along(
    dynamics,
    jnp.asarray(offsets),
    jax.tree.map(jnp.asarray, rows),
    jax.random.PRNGKey(0),
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-12)


# --- promises that are not kept


_DECLARED = {
  'real/gain': algorithms.Metric('as it is'),
  'dream/gain': algorithms.Metric(
    'as dreamt', against='real/gain', advice='wake up'
  ),
}


def _row(index: int, dreamt: float, real: float) -> dict[str, float]:
  row = {'iteration': index, 'dream/gain': dreamt, 'real/gain': real}
  return row | ratios.ratios(_DECLARED, row)


def _watch(*before: dict[str, float], first: int = 0) -> promises.Watch:
  run = types.SimpleNamespace(
    rows=lambda: list(before),
    folder=types.SimpleNamespace(root=types.SimpleNamespace(name='mine')),
  )
  return promises.Watch([run], _DECLARED, first)


def test_ratios():
  assert _row(0, 3.0, 2.0)['dream/gain_ratio'] == 1.5
  for real in (0.0, -1.0, math.nan):
    assert math.isnan(_row(0, 3.0, real)['dream/gain_ratio'])


@pytest.mark.parametrize('real', [-80.0, -1.0, 0.0, 3.0])
def test_costs_run_away_too(real):
  """By half of them, in three of five iterations."""
  kept, broken = real + 0.49 * abs(real), real + 0.51 * abs(real) + 0.01
  watch = _watch()
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    promised = [kept, broken, broken, kept, kept, kept, broken, kept, broken]
    for index, promise in enumerate(promised):
      watch.check(index, [_row(index, promise, real)])
    # Without a number there is nothing to compare.
    watch.check(9, [_row(9, broken, math.nan)])
    watch.check(10, [_row(10, math.nan, real)])
    watch.check(11, [{'iteration': 11}])
    watch.check(12, [_row(12, kept, real)])
  with pytest.warns(UserWarning, match='exceeded real/gain by more') as told:
    watch.check(13, [_row(13, broken, real)])
  assert ('dream/gain_ratio' in str(told[0].message)) == (real > 0)


def test_a_return_that_falls_while_the_models_promise_more_is_noticed():
  """The returns of `benchmarks/results/half_cheetah_2x512_cpu`, from its peak.

  Before, the policy improves so quickly that this older metric runs ahead.
  """
  results = pathlib.Path(__file__).parents[1] / 'benchmarks/results'
  path = results / 'half_cheetah_2x512_cpu/metrics.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  peak = max(rows, key=lambda row: row['eval/return_mean'])
  fallen = [row for row in rows if row['env_steps'] >= peak['env_steps']]
  watch = _watch(_row(0, -47.0, -47.0), first=1)
  with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter('always')
    for index, row in enumerate(fallen, 1):
      # This run is older than `imagined/promise`.
      promise, real = row['imagined/return_post'], row['real/return']
      watch.check(index, [_row(index, promise, real)])
  assert fallen[6]['env_steps'] == 96_000
  (warning,) = told
  assert 'iteration 7: in 3 of the last 5' in str(warning.message)


def test_the_start_of_a_run_and_its_goal_are_no_alarm():
  """Random actions are not judged, nor a cost of almost nothing."""
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    watch = _watch()
    for index in range(3):
      watch.check(index, [_row(index, 5.0, 1.0)])
    watch = _watch(_row(0, -50.0, -50.0), first=1)
    for index in range(1, 9):
      watch.check(index, [_row(index, -0.01, -0.1)])
    for index in (9, 10):
      watch.check(index, [_row(index, 5.1, -0.1)])
  with pytest.warns(UserWarning, match='iteration 11'):
    watch.check(11, [_row(11, 5.1, -0.1)])


def test_promises_are_of_as_many_steps():
  """Episodes of 10 steps, of which 4 are imagined: every reward is -1."""

  class Costly(type(envs.make('point'))):
    def reward(self, obs, action, next_obs):
      return -jnp.ones(obs.shape[:-1])

  config = tiny.point_config(model_rollouts__horizon=4)
  algorithm = mbmpo.make(Costly(), config, check=False)
  state = jax.jit(algorithm.init)(
    jax.random.PRNGKey(0), algorithms.hyper(config)
  )
  _, collected = jax.jit(algorithm.phases['collect'])(state)
  promise = algorithm.metrics['imagined/promise']
  assert collected[promise.against] == pytest.approx(-4)
  assert collected['real/return'] == pytest.approx(-10)
  assert promise.against in algorithm.metrics
  whole = mbmpo.make(envs.make('point'), tiny.point_config(), check=False)
  assert whole.metrics['imagined/promise'].against == 'real/return'
  assert promise.against not in whole.metrics


def test_what_runs_away_is_named_once():
  """In the third of five iterations, by a run that is continued, too."""
  high, low = (1.6, 1.0), (1.4, 1.0)
  rows = [_row(i, *x) for i, x in enumerate([high, high, low, low, high])]
  watch = _watch(*rows[:4], first=4)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    watch.check(4, [rows[4]])
  last = _row(5, *high)
  with pytest.warns(UserWarning, match='iteration 5: in 3 of') as caught:
    watch.check(5, [last])
  assert 'wake up' in str(caught[0].message)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    for told in (watch, _watch(*rows, last, first=6)):
      told.check(6, [_row(6, *high)])
      told.check(7, [_row(7, *low)])
