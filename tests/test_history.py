"""Histories, and the networks, policies and models that see them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base as algorithms
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.models import early_stopping
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import recurrent
from mbmpo_jax.models import recurrent_config
from mbmpo_jax.models import statistics
from mbmpo_jax.networks import history as networks
from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import base
from mbmpo_jax.policies import history as policy_lib
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import real
from tests import reference_history as reference

LENGTH = 3


@functools.partial(jax.jit, static_argnums=(0, 1))
def random_window(seed: int, num: int) -> history.Window:
  """Of `num` episodes, 0, 1, 2, ... steps old."""
  keys = jax.random.split(jax.random.PRNGKey(seed), 3)
  window = history.empty(num, 2, 2, length=LENGTH)
  for age in range(LENGTH):
    draw = functools.partial(jax.random.normal, keys[age])
    after = history.push(window, draw((num, 2)), draw((num, 2)), draw((num,)))
    older = jnp.arange(num) > age
    window = jax.tree.map(
      lambda new, old, older=older: jnp.where(
        older.reshape(-1, *(1,) * (new.ndim - 1)), new, old
      ),
      after,
      window,
    )
  return window


@jax.jit
def ring() -> buffer_lib.Buffer:
  """17 rows of episodes of 5, 4 and 8 steps, one left out, in 12 slots."""
  lengths, rng = [5, 4, 8], np.random.default_rng(0)
  time = np.concatenate([np.arange(n) for n in lengths])
  obs = rng.normal(size=(17, 2)).astype(np.float32)
  obs[12] = np.nan
  rows = types.Transition(
    obs=obs,
    action=rng.uniform(-1, 1, (17, 2)),
    reward=rng.normal(size=17),
    next_obs=rng.normal(size=(17, 2)),
    terminated=np.zeros(17),
    truncated=np.zeros(17),
    episode=np.repeat(np.arange(3), lengths),
    time=time,
  )
  buffer = buffer_lib.init_transitions(12, 2, 2)
  for index in range(0, 17, 3):
    part = jax.tree.map(lambda x, i=index: jnp.asarray(x[i : i + 3]), rows)
    buffer = buffer_lib.add(buffer, part)
  return buffer


def test_the_encoder_is_a_gru_unrolled_by_hand(x64):
  window = random_window(0, 5)
  encoder = networks.Encoder(4)
  params = jax.jit(encoder.init)(
    jax.random.PRNGKey(0), window.features, window.mask
  )
  found = jax.jit(encoder.apply)(params, window.features, window.mask)
  cell = params['params']['gru']['GRUCell_0']
  for n in range(5):
    expected = reference.gru(
      cell, np.asarray(window.features[n]), np.asarray(window.mask[n])
    )
    np.testing.assert_allclose(found[n], expected, rtol=1e-12, atol=1e-14)
  np.testing.assert_array_equal(found[0], np.zeros(4))


def test_what_is_masked_does_not_matter():
  window = random_window(0, 5)
  encoder = networks.Encoder(4)
  params = jax.jit(encoder.init)(
    jax.random.PRNGKey(0), window.features, window.mask
  )
  noisy = jnp.where(window.mask[..., None] > 0, window.features, 7.0)
  np.testing.assert_array_equal(
    jax.jit(encoder.apply)(params, noisy, window.mask),
    jax.jit(encoder.apply)(params, window.features, window.mask),
  )


def test_without_a_history_a_network_is_an_mlp():
  x = jnp.ones((3, 5))
  plain = mlp.MLP((8, 8), 2, 'swish')
  network = networks.Network((8, 8), 2, 'swish')
  params = jax.jit(network.init)(jax.random.PRNGKey(0), x, None)
  assert set(params['params']) == {'MLP_0'}
  np.testing.assert_array_equal(
    network.apply(params, x, None),
    plain.apply({'params': params['params']['MLP_0']}, x),
  )


def test_critics_have_gru_s_of_their_own():
  window = random_window(0, 4)
  critics = networks.Critics((8,), units=4)
  obs = action = jnp.ones((4, 2))
  params = jax.jit(critics.init)(jax.random.PRNGKey(0), obs, window, action)[
    'params'
  ]
  assert set(params) == {'critic_0', 'critic_1'}
  values = jax.jit(critics.apply)({'params': params}, obs, window, action)
  for index in range(2):
    expected = [
      reference.network(
        params[f'critic_{index}'],
        np.ones(4),
        np.asarray(window.features[n]),
        np.asarray(window.mask[n]),
      )[0]
      for n in range(4)
    ]
    np.testing.assert_allclose(values[:, index], expected, rtol=1e-5, atol=1e-6)


def test_histories_cut_from_the_buffer_cross_nothing():
  buffer = ring()
  slots = jnp.arange(12)
  window = jax.jit(functools.partial(history.stored, length=LENGTH))(
    buffer, slots
  )
  rows = jax.tree.map(np.asarray, buffer.data)
  kinds = set()
  for slot in range(12):
    places = reference.windows(rows, slot, LENGTH, int(buffer.size))
    kinds.add(places.count(None))
    for step, place in enumerate(places):
      live = place is not None
      assert window.mask[slot, step] == live
      for name in ('obs', 'action', 'reward'):
        expected = getattr(rows, name)[place] if live else 0
        np.testing.assert_array_equal(
          getattr(window, name)[slot, step], expected
        )
  assert kinds == {0, 1, 2, 3}


def test_a_history_along_a_rollout_is_what_the_policy_carries():
  """In episodes that time cuts; and those cut from the buffer are the same."""
  env = envs.make('point_direc')
  policy = policy_lib.make(
    policy_lib.Gaussian(2, (8,), units=4), 2, 2, length=LENGTH
  )
  params = jax.jit(policy.init)(jax.random.PRNGKey(0))
  rollout = functools.partial(
    real.rollout, env, policy, num_envs=3, horizon=9, time_limit=4
  )
  trajectory, _ = jax.jit(rollout)(params, jax.random.PRNGKey(1))

  @jax.jit
  def again(params, trajectory):
    dist = policy.over(params, trajectory)
    along = history.along(history.empty(3, 2, 2, length=LENGTH), trajectory)
    buffer = buffer_lib.init_transitions(40, 2, 2)
    rows, _, _ = real.to_transitions(trajectory, jnp.int32(0))
    buffer = buffer_lib.add(buffer, rows)
    slots = jnp.arange(27).reshape(3, 9).T.reshape(-1)
    stored = history.stored(buffer, slots, length=LENGTH)
    rows, _, _ = real.to_transitions(trajectory, jnp.int32(0), alternating=True)
    buffer = buffer_lib.add(buffer_lib.init_transitions(40, 2, 2), rows)
    stored_too = history.stored(
      buffer, jnp.arange(27), length=LENGTH, num_envs=3
    )
    return dist.log_prob(trajectory.action), along, stored, stored_too

  log_prob, along, *stored = again(params, trajectory)
  np.testing.assert_allclose(
    log_prob, trajectory.log_prob, rtol=1e-4, atol=1e-5
  )
  for found in stored:
    jax.tree.map(
      lambda a, b: np.testing.assert_array_equal(a.reshape(b.shape), b),
      along,
      found,
    )
  assert along.mask.sum(-1).max() == 3
  np.testing.assert_array_equal(along.mask[4].sum(-1), 0)


@pytest.mark.parametrize(('num_envs', 'per_round'), [(1, 2), (3, 1), (3, 2)])
def test_histories_of_what_is_collected_are_whole(num_envs, per_round):
  """However many environments step by step, or several steps at a time."""
  env = envs.make('point_direc')
  policy = policy_lib.make(
    policy_lib.Gaussian(2, (8,), units=4), 2, 2, length=LENGTH
  )
  params = policy.init(jax.random.PRNGKey(0))
  section = off_policy_config.Collect(
    num_envs=num_envs, episode_length=5, buffer_capacity=50
  )
  key = jax.random.PRNGKey(1)
  world = off_policy.start(
    env, policy, params, key, section=section, metrics=()
  )
  state = off_policy.State(algorithms.start_counters(key), {}, (), *world)
  collect = jax.jit(
    lambda state: off_policy.collect(
      state, env, policy, params, section=section, num_steps=per_round
    )
  )
  for _ in range(12 // per_round):
    state = collect(state)
  rows = 12 * num_envs
  assert int(state.buffer.size) == rows
  window = history.stored(
    state.buffer, jnp.arange(rows), length=LENGTH, num_envs=num_envs
  )
  time = np.asarray(state.buffer.data.time[:rows])
  assert set(time) == set(range(5))
  np.testing.assert_array_equal(window.mask.sum(-1), np.minimum(time, LENGTH))


def test_a_rollout_may_begin_under_way():
  policy = policy_lib.make(
    policy_lib.Gaussian(2, (8,), units=4), 2, 2, length=LENGTH
  )
  window = random_window(1, 5)
  carry = policy.start((), jax.random.PRNGKey(0), window, 5)
  assert carry is window
  assert float(policy.start((), None, (), 5).mask.sum()) == 0
  step = base.Experience(
    jnp.ones((5, 2)), jnp.ones((5, 2)), jnp.ones(5), jnp.zeros((5, 2)), None
  )
  after = policy.observe((), carry, step)
  np.testing.assert_array_equal(after.obs[:, -1], np.ones((5, 2)))
  np.testing.assert_array_equal(after.obs[:, :-1], window.obs[:, 1:])


def section(**values) -> recurrent_config.Ensemble:
  return recurrent_config.Ensemble(
    num_models=2, hidden_sizes=(6,), batch_size=4, **values
  )


@pytest.mark.parametrize(('length', 'share'), [(0, None), (LENGTH, 0.6)])
def test_the_loss_is_the_negative_log_likelihood(length, share, x64):
  """And its gradient is that of finite differences of the reference."""
  env = envs.make('point_direc')
  dynamics = recurrent.make(
    env, section(reward_weight=share), length=length, units=4
  )
  weights = [1 / 3] * 3 if share is None else [0.2, 0.2, 0.6]
  params = jax.tree.map(
    lambda x: x[0].astype(float), jax.jit(dynamics.init)(jax.random.PRNGKey(0))
  )
  keys = jax.random.split(jax.random.PRNGKey(1), 4)
  x = jax.random.normal(keys[0], (5, 4))
  targets = jax.random.normal(keys[1], (5, 3))
  weight = jnp.array([0.5, 1.0, 0.0, 2.0, 0.25])
  past = (
    jax.random.normal(keys[2], (5, LENGTH, 5)),
    jnp.arange(LENGTH)[None] >= jnp.arange(5)[:, None] - 1.0,
  )
  past = (past[0], past[1].astype(float))
  inputs = (x, past) if length else x

  def density(params, n: int):
    seen = [np.asarray(leaf[n]) for leaf in past] if length else []
    outputs = reference.network(params['params'], np.asarray(x[n]), *seen)
    return reference.bounded_gaussian(outputs, -5, 0.25)

  def wrong(params) -> float:
    errors = [
      (np.asarray(targets[n]) - density(params, n)[0]) for n in range(5)
    ]
    return sum(
      float(w) * np.dot(weights, e**2)
      for w, e in zip(weight, errors, strict=True)
    )

  def expected(params) -> float:
    total = 0.0
    for n in range(5):
      mean, std = density(params, n)
      z = (np.asarray(targets[n]) - mean) / std
      nll = 0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi)
      bound = -5 + 0.5 * np.log(2 * np.pi)
      total += float(weight[n]) * np.dot(weights, nll - bound)
    return total

  loss = functools.partial(
    dynamics.loss, inputs=inputs, targets=targets, weight=weight, key=None
  )
  value, grad = jax.jit(jax.value_and_grad(loss))(params)
  np.testing.assert_allclose(value, expected(params), rtol=1e-10)
  assert value > 0
  rng = np.random.default_rng(2)
  for path, _ in jax.tree.leaves_with_path(params):
    # Along a random direction of one array after the other.
    along = jax.tree.map_with_path(
      lambda p, x, path=path: rng.normal(size=x.shape) * (p == path), params
    )

    def moved(by: float, along=along):
      return jax.tree.map(
        lambda x, d, by=by: np.asarray(x) + by * d, params, along
      )

    slope = (expected(moved(1e-5)) - expected(moved(-1e-5))) / 2e-5
    found = sum(jax.tree.leaves(jax.tree.map(np.vdot, grad, along)))
    np.testing.assert_allclose(
      found, slope, rtol=1e-5, atol=1e-9, err_msg=str(path)
    )
  error = dynamics.error(params, inputs, targets, weight, None)
  np.testing.assert_allclose(error, wrong(params), rtol=1e-10)


def test_a_prediction_is_what_the_parameters_say(x64):
  """Of windows and moments that are not those of standardised data."""
  env = envs.make('point_direc')
  dynamics = recurrent.make(env, section(), length=LENGTH, units=4)
  rng = np.random.default_rng(0)
  inputs = rng.normal(2, 3, (50, 4))
  deltas = rng.normal(-1, 0.2, (50, 2))
  reward = rng.normal(4, 5, 50)
  stats = statistics.fit(
    jnp.asarray(inputs),
    jnp.asarray(deltas),
    jnp.asarray(inputs[:, :2]),
    jnp.ones(50),
    clip_margin=None,
    reward=jnp.asarray(reward),
  )
  params = jax.jit(dynamics.init)(jax.random.PRNGKey(0))
  model = jax.tree.map(lambda x: x[1], jax.jit(dynamics.ready)(params, stats))
  window = random_window(0, 4)
  obs = jax.random.normal(jax.random.PRNGKey(2), (4, 2))
  action = 0.3 * jnp.ones((4, 2))
  key = jax.random.PRNGKey(3)
  carry, predicted = jax.jit(dynamics.predict)(model, window, obs, action, key)
  noise = np.asarray(jax.random.normal(key, (4, 3), obs.dtype))
  own = jax.tree.map(lambda x: x[1], params)['params']

  def standard(x):
    return (x - inputs.mean(0)) / inputs.std(0)

  for n in range(4):
    seen = np.concatenate([window.obs[n], window.action[n]], -1)
    past = (np.asarray(window.reward[n]) - reward.mean()) / reward.std()
    features = np.concatenate([standard(seen), past[:, None]], -1)
    now = standard(np.concatenate([obs[n], action[n]]))
    outputs = reference.network(own, now, features, np.asarray(window.mask[n]))
    mean, std = reference.bounded_gaussian(outputs, -5, 0.25)
    y = mean + std * noise[n]
    np.testing.assert_allclose(
      predicted.next_obs[n],
      obs[n] + deltas.mean(0) + deltas.std(0) * y[:2],
      rtol=1e-9,
    )
    np.testing.assert_allclose(
      predicted.reward[n], reward.mean() + reward.std() * y[2], rtol=1e-9
    )
  np.testing.assert_array_equal(carry.reward[:, -1], predicted.reward)
  np.testing.assert_array_equal(carry.obs[:, -1], obs)
  assert predicted.terminated is None


def test_a_fit_hands_the_loss_the_histories_of_its_rows(monkeypatch):
  """Standardised; a row that is not finite is in no history."""
  buffer = ring()
  data = buffer.data._replace(reward=buffer.data.reward.at[6].set(jnp.nan))
  handed = {}

  def train(params, optimizer_state, **options):
    handed.update(options)
    info = early_stopping.Info(*(jnp.zeros(2) for _ in range(4)))
    return params, optimizer_state, info

  monkeypatch.setattr(early_stopping, 'train', train)
  env = envs.make('point_direc')
  dynamics = recurrent.make(env, section(), length=LENGTH, units=4)
  optimizer = fit_lib.optax.adam(1e-3)

  @jax.jit
  def fit(data):
    fit_lib.fit_dynamics(
      fit_lib.init(dynamics, optimizer, jax.random.PRNGKey(0)),
      dynamics,
      optimizer,
      data,
      buffer_lib.mask(buffer),
      jax.random.PRNGKey(1),
      section=section(),
      rolling_persistence=0.9,
      model_input=env.model_input,
      history=LENGTH,
      predict_reward=True,
    )
    return handed['targets'], *handed['histories'](jnp.arange(12))

  targets, features, mask = fit(data)
  rows = jax.tree.map(np.asarray, data)
  sound = np.isfinite(rows.reward)
  raw = np.concatenate([rows.obs, rows.action, rows.reward[:, None]], -1)
  mean, std = raw[sound].mean(0), raw[sound].std(0)
  assert targets.shape == (12, 3)
  np.testing.assert_allclose(
    targets[sound, 2], ((raw - mean) / std)[sound, 4], rtol=1e-5
  )
  for slot in np.flatnonzero(sound):
    places = reference.windows(rows, slot, LENGTH, 12)
    for step, place in enumerate(places):
      # The window begins after the last row that is not sound.
      live = place is not None and all(sound[p] for p in places[step:])
      assert mask[slot, step] == live
      expected = (raw[place] - mean) / std if live else np.zeros(5)
      np.testing.assert_allclose(
        features[slot, step], expected, rtol=1e-4, atol=1e-5
      )


@pytest.mark.parametrize('patience', [None, 5])
def test_with_a_patience_the_squared_error_validates(patience, monkeypatch):
  handed = {}

  def train(params, optimizer_state, **options):
    handed.update(options)
    info = early_stopping.Info(*(jnp.zeros(2) for _ in range(4)))
    return params, optimizer_state, info

  monkeypatch.setattr(early_stopping, 'train', train)
  env, buffer = envs.make('point_direc'), ring()
  dynamics = recurrent.make(env, section(), length=0, units=4)
  optimizer = fit_lib.optax.adam(1e-3)
  jax.eval_shape(
    lambda data: fit_lib.fit_dynamics(
      fit_lib.init(dynamics, optimizer, jax.random.PRNGKey(0)),
      dynamics,
      optimizer,
      data,
      buffer_lib.mask(buffer),
      jax.random.PRNGKey(1),
      section=section(patience=patience),
      rolling_persistence=0.9,
      model_input=env.model_input,
      predict_reward=True,
    )[1],
    buffer.data,
  )
  expected = None if patience is None else dynamics.error
  assert handed['validation_loss'] is expected
