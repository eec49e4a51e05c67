"""Returns, baseline and advantages, against the reference and by hand."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from mbmpo_jax import types
from mbmpo_jax.objectives import baseline
from mbmpo_jax.objectives import returns

_TOLERANCE = {'float32': 2e-5, 'float64': 1e-10}
_LENGTHS = (6, 1, 4, 3)
_RIDGE = 1e-5

# Compiled once for the whole file, the numbers being arguments.
_discounted_returns = jax.jit(returns.discounted_returns)
_features = jax.jit(baseline.features)
_fit = jax.jit(baseline.fit)
_predict = jax.jit(baseline.predict)
_gae = jax.jit(returns.gae)
_standardize = jax.jit(returns.standardize)
_advantages = jax.jit(returns.advantages)


@pytest.fixture(params=sorted(_TOLERANCE))
def tolerance(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
  """Runs the test in both precisions; what to allow in each."""
  allowed = _TOLERANCE[request.param]
  with jax.enable_x64(request.param == 'float64'):
    yield {'rtol': allowed, 'atol': allowed}


@pytest.fixture(params=[7.0, np.nan], ids=['dead=7', 'dead=nan'])
def rollouts(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
  """Rollouts of unequal length; masked entries hold what nobody may read."""
  rng = np.random.default_rng(2)
  live = np.arange(max(_LENGTHS))[:, None] < np.array(_LENGTHS)
  arrays = {
    'obs': 3 * rng.normal(size=(*live.shape, 3)) + [0, 5, 0],
    'rewards': rng.normal(size=live.shape),
    'values': rng.normal(size=live.shape),
  }
  for array in arrays.values():
    array[~live] = request.param
  ends = live & ~np.vstack([live[1:], live[-1:]])
  return arrays | {
    'mask': live.astype(float),
    'terminated': ends.astype(float),
  }


def _arrays(source: dict[str, np.ndarray], *names: str) -> list[jax.Array]:
  """In the precision in force."""
  return [jnp.asarray(source[name]) for name in names]


@pytest.mark.parametrize('discount', [0.0, 0.9, 1.0])
def test_discounted_returns(tolerance, rollouts, discount):
  inputs = _arrays(rollouts, 'rewards', 'mask', 'terminated')
  np.testing.assert_allclose(
    _discounted_returns(*inputs, discount=discount),
    reference.discounted_returns(
      rollouts['rewards'], rollouts['mask'], discount
    ),
    **tolerance,
  )


@pytest.mark.parametrize(
  ('discount', 'gae_lambda'), [(0.99, 1.0), (0.9, 0.7), (0.9, 0.0), (1.0, 1.0)]
)
def test_gae(tolerance, rollouts, discount, gae_lambda):
  inputs = _arrays(rollouts, 'rewards', 'values', 'mask', 'terminated')
  np.testing.assert_allclose(
    _gae(*inputs, discount=discount, gae_lambda=gae_lambda),
    reference.gae(
      rollouts['rewards'],
      rollouts['values'],
      rollouts['mask'],
      discount,
      gae_lambda,
    ),
    **tolerance,
  )


def test_by_hand():
  """Two rollouts of three steps; the second one ends with its second step."""
  rewards = jnp.array([[1.0, 1.0], [2.0, 2.0], [4.0, 99.0]])
  values = jnp.array([[1.0, 1.0], [3.0, 3.0], [5.0, 99.0]])
  mask = jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
  ends = jnp.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
  np.testing.assert_allclose(
    _discounted_returns(rewards, mask, ends, discount=0.5),
    [[3.0, 2.0], [4.0, 2.0], [4.0, 0.0]],
  )
  # Errors: 1 + .5 * 3 - 1, 2 + .5 * 5 - 3, 4 - 5; 1 + .5 * 3 - 1, 2 - 3.
  np.testing.assert_allclose(
    _gae(rewards, values, mask, ends, discount=0.5, gae_lambda=0.5),
    [[1.8125, 1.25], [1.25, -1.0], [-1.0, 0.0]],
  )


def test_a_restarted_rollout_is_two_rollouts(tolerance):
  """Episodes in one column count as in columns of their own.

  The first column holds an episode of 2 steps and one of 3, then padding; the
  second an episode of 6. Beside it, the three in columns of their own.
  """
  rng = np.random.default_rng(4)
  apart = {
    'obs': 3 * rng.normal(size=(6, 3, 2)),
    'rewards': rng.normal(size=(6, 3)),
    'mask': (np.arange(6)[:, None] < [2, 3, 6]).astype(float),
    'terminated': (np.arange(6)[:, None] == [1, 2, 5]).astype(float),
  }
  together = {}
  for name, x in apart.items():
    padding = np.full_like(x[:1, 0], 0 if name == 'terminated' else np.nan)
    padding = np.zeros_like(padding) if name == 'mask' else padding
    column = np.concatenate([x[:2, 0], x[:3, 1], padding])
    together[name] = np.stack([column, x[:, 2]], 1)
  settings = {'discount': 0.9, 'gae_lambda': 0.7, 'ridge': _RIDGE}

  expected = np.asarray(_advantages(_trajectory(apart), **settings))
  actual = np.asarray(_advantages(_trajectory(together), **settings))

  episodes = np.concatenate([expected[:2, 0], expected[:3, 1], [0.0]])
  np.testing.assert_allclose(
    actual,
    np.stack([episodes, expected[:, 2]], 1),
    atol=1000 * tolerance['atol'],
  )


def test_baseline(tolerance, rollouts):
  """Weights, and predictions at live steps."""
  obs, targets, mask, terminated = _arrays(
    rollouts, 'obs', 'rewards', 'mask', 'terminated'
  )
  phi = _features(obs, mask, terminated)
  fitted = _fit(phi, targets, mask, ridge=_RIDGE)
  values = _predict(fitted, phi)

  expected = reference.baseline_weights(
    rollouts['obs'], rollouts['rewards'], rollouts['mask'], _RIDGE
  )
  allowed = max(tolerance['rtol'], 1e-8)
  # Single precision need not find the weights, only what they predict.
  weights = fitted.weights
  if weights.dtype == jnp.float64:
    constant = fitted.mean - weights @ fitted.center
    np.testing.assert_allclose(
      [*weights[:-1], constant], expected, rtol=allowed, atol=allowed
    )
  np.testing.assert_allclose(
    values,
    reference.baseline_values(expected, rollouts['obs'], rollouts['mask']),
    rtol=0,
    atol=100 * allowed,
  )


@pytest.mark.parametrize('offset', [0.0, 1.0, 9.0, 1e6])
@pytest.mark.parametrize('scale', [1e-3, 1.0, 1e3])
def test_baseline_in_single_precision(offset, scale):
  """A constant, a column given twice, tiny and clipped ones, time.

  What a baseline is for: it explains the returns as well as the best one.
  """
  rng = np.random.default_rng(3)
  obs = rng.normal(size=(200, 25, 4)) * [1.0, 1.0, 0.0, scale] + offset
  obs[..., 1] = obs[..., 0]
  mask = np.ones((200, 25))
  mask[120:, 0] = 0.0
  ends = np.zeros_like(mask)
  ends[119, 0] = 1.0
  rewards = obs[..., 0] - offset + 0.1 * rng.normal(size=mask.shape) + 1.0
  targets = reference.discounted_returns(rewards, mask, 0.99)
  best = reference.baseline_weights(obs, targets, mask, _RIDGE)

  phi = _features(*(jnp.asarray(x, jnp.float32) for x in (obs, mask, ends)))
  fitted = _fit(
    phi,
    *(jnp.asarray(x, jnp.float32) for x in (targets, mask)),
    ridge=_RIDGE,
  )
  assert fitted.weights.dtype == jnp.float32
  values = _predict(fitted, phi)
  live = mask == 1
  error = np.asarray(values, np.float64) - targets
  least = reference.baseline_values(best, obs, mask) - targets
  assert np.mean(error[live] ** 2) < 1.02 * np.mean(least[live] ** 2)


@pytest.mark.parametrize('offset', [0.0, 1e5, -1e7])
@pytest.mark.parametrize('spread', [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize('unit', [1.0, 1e-9])
def test_baseline_is_never_worse_than_a_constant(offset, spread, unit):
  """Returns far from zero, observations that hardly vary, rewards in any unit.

  Where the spread outweighs the ridge, it explains what there is to explain.
  """
  rng = np.random.default_rng(5)
  obs = 1 + spread * rng.normal(size=(50, 20, 3))
  targets = unit * ((obs[..., 0] - 1) / spread + offset)
  mask, ends = np.ones((50, 20)), np.zeros((50, 20))
  phi = _features(*(jnp.asarray(x, jnp.float32) for x in (obs, mask, ends)))
  single = jnp.asarray(targets, jnp.float32)
  values = _predict(
    _fit(phi, single, jnp.asarray(mask, jnp.float32), ridge=_RIDGE), phi
  )
  error = np.asarray(values, np.float64) - np.asarray(single, np.float64)
  rounding = unit * abs(offset) * np.finfo(np.float32).eps
  constant = np.std(np.asarray(single, np.float64))
  assert np.std(error) < 1.01 * constant + rounding
  assert abs(np.mean(error)) < 1e-2 * unit + 2 * rounding
  if spread > 1e-3 and abs(offset) < 1e6:
    assert np.std(error) < 0.1 * unit


def test_observations_are_clipped():
  obs = jnp.array([[[-1e30]], [[10.0]]])
  same = jnp.array([[[-10.0]], [[10.0]]])
  mask, terminated = jnp.ones((2, 1)), jnp.zeros((2, 1))
  np.testing.assert_array_equal(
    _features(obs, mask, terminated), _features(same, mask, terminated)
  )


def test_standardize(tolerance, rollouts):
  advantages, mask = _arrays(rollouts, 'values', 'mask')
  scaled = _standardize(advantages, mask)
  np.testing.assert_allclose(
    scaled,
    reference.standardize(rollouts['values'], rollouts['mask']),
    **tolerance,
  )
  live = np.asarray(scaled)[rollouts['mask'] == 1]
  np.testing.assert_allclose(np.mean(live), 0.0, atol=1e-6)
  np.testing.assert_allclose(np.std(live), 1.0, atol=1e-6)


@pytest.mark.parametrize('unit', [1e-9, 1e-20, 1e9])
def test_standardized_advantages_have_no_unit(rollouts, unit):
  advantages, mask = _arrays(rollouts, 'values', 'mask')
  expected = _standardize(advantages, mask)
  scaled = _standardize(unit * advantages, mask)
  np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('live', [0, 1, 4000])
@pytest.mark.parametrize('value', [3.0, 0.1, -12.3])
def test_standardize_without_spread(live, value):
  """Equal advantages, one or none: no signal, and no NaN."""
  mask = (jnp.arange(4000.0) < live).astype(float)[:, None]
  scaled = _standardize(jnp.full((4000, 1), value), mask)
  np.testing.assert_array_equal(scaled, np.zeros((4000, 1)))


def _trajectory(rollouts: dict[str, np.ndarray]) -> types.Trajectory:
  """What advantages are made of; NaN in every other field."""
  fields = dict.fromkeys(types.Trajectory._fields, jnp.nan)
  given = ('obs', 'reward', 'mask', 'terminated')
  arrays = _arrays(rollouts, 'obs', 'rewards', 'mask', 'terminated')
  return types.Trajectory(**(fields | dict(zip(given, arrays, strict=True))))


def test_advantages(tolerance, rollouts):
  """All of the above in a row."""
  obs, rewards, mask = (rollouts[x] for x in ('obs', 'rewards', 'mask'))
  targets = reference.discounted_returns(rewards, mask, 0.9)
  weights = reference.baseline_weights(obs, targets, mask, _RIDGE)
  values = reference.baseline_values(weights, obs, mask)
  expected = reference.standardize(
    reference.gae(rewards, values, mask, 0.9, 0.7), mask
  )
  actual = _advantages(
    _trajectory(rollouts), discount=0.9, gae_lambda=0.7, ridge=_RIDGE
  )
  np.testing.assert_allclose(actual, expected, atol=100 * tolerance['atol'])


def test_dead_entries_have_no_gradient(rollouts):
  rewards, values, mask, terminated = _arrays(
    rollouts, 'rewards', 'values', 'mask', 'terminated'
  )

  @jax.jit
  @jax.grad
  def gradient(inputs):
    raw = returns.gae(*inputs, mask, terminated, discount=0.9, gae_lambda=0.7)
    first = jnp.arange(float(mask.size)).reshape(mask.shape)
    return jnp.sum(returns.standardize(raw, mask) * first)

  for slope in gradient((rewards, values)):
    live = rollouts['mask'] == 1
    assert np.all(np.isfinite(slope))
    assert np.all(slope[~live] == 0)
    assert np.all(slope[live] != 0)


def test_tasks_do_not_mix(rollouts):
  """Under vmap every task sees its own rollouts only."""
  task = _trajectory(rollouts)
  flipped = jax.tree.map(lambda x: x[:, ::-1] if jnp.ndim(x) else x, task)
  larger = task._replace(reward=100 * task.reward)
  settings = {'discount': 0.99, 'gae_lambda': 1.0, 'ridge': _RIDGE}

  def advantages(task):
    return returns.advantages(task, **settings)

  tasks = jax.tree.map(lambda *x: jnp.stack(x), task, flipped, larger)
  first, second, third = jax.jit(jax.vmap(advantages))(tasks)
  close = {'rtol': 1e-3, 'atol': 1e-3}
  np.testing.assert_allclose(first, _advantages(task, **settings), **close)
  np.testing.assert_allclose(second, first[:, ::-1], **close)
  np.testing.assert_allclose(third, first, **close)
