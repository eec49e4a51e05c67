"""Data of strangers: a robot's units, lists, other worlds than they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn

from mbmpo_jax import config
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import statistics
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real
from tests import jitted

_COUNT = 10


def _log(**changes):
  zeros = np.zeros(_COUNT)
  steps = types.Transition(
    obs=np.zeros((_COUNT, 2)),
    action=np.zeros((_COUNT, 2)),
    reward=zeros,
    next_obs=np.zeros((_COUNT, 2)),
    terminated=zeros,
    truncated=zeros,
    episode=np.zeros(_COUNT, int),
    time=np.arange(_COUNT),
  )
  return steps._replace(**changes)


def _ring():
  return buffer_lib.init_transitions(20, observation_size=2, action_size=2)


def _newton_metres(limit):
  torque = np.zeros((_COUNT, 2))
  torque[3, 1] = -limit
  return torque


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    (
      {'action': _newton_metres(20.0)},
      'rows.action reaches 20: must be within [-1, 1]; divide each dimension by'
      " its actuator's limit, at least [1, 20]",
    ),
    # Arrays of JAX, lists and a row that will be left out.
    ({'action': jnp.asarray(_newton_metres(1.5))}, 'reaches 1.5'),
    ({'action': _newton_metres(3.0).tolist()}, 'reaches 3'),
    (
      {
        'action': _newton_metres(7.0)
        + np.diag([np.nan, np.inf] + 8 * [0])[:, :2]
      },
      'reaches 7',
    ),
    ({'episode': np.full(_COUNT, 0.5)}, 'rows.episode: must be whole numbers'),
    ({'reward': [0.0, 'one'] * 5}, 'rows.reward has type <U'),
    (
      {'obs': [[0.0]] + 9 * [[0.0, 1.0]]},
      'rows.obs: must have rows of equal length',
    ),
    ({'reward': 1.0}, 'rows: must have a leading axis'),
  ],
)
def test_a_log_that_does_not_fit_is_refused_in_one_line(changes, said):
  with pytest.raises(ValueError, match=r'^rows') as error:
    buffer_lib.add(_ring(), _log(**changes))
  assert said in str(error.value)
  assert '\n' not in str(error.value)


def test_lists_and_whole_floats_are_taken():
  log = _log(
    obs=[[0.0, 1.0]] * _COUNT,
    action=[[1.0, -1.0]] * _COUNT,
    reward=list(range(_COUNT)),
    terminated=[False] * _COUNT,
    episode=np.zeros(_COUNT),
  )
  ring = buffer_lib.add(_ring(), log)
  assert int(ring.size) == _COUNT
  np.testing.assert_array_equal(ring.data.reward[:_COUNT], range(_COUNT))
  np.testing.assert_array_equal(ring.data.obs[:_COUNT, 1], 1)
  assert ring.data.episode.dtype == jnp.int32
  assert jax.tree.map(jax.typeof, ring) == jax.tree.map(jax.typeof, _ring())


def test_other_trees_stay_free():
  """Of a ring of anything, nothing is known of actions."""
  ring = buffer_lib.init(4, {'action': jnp.zeros(1)})
  ring = buffer_lib.add(ring, {'action': [[20.0], [3.0]]})
  assert int(ring.size) == 2
  with pytest.raises(ValueError, match='as in the buffer'):
    buffer_lib.add(ring, {'other': [[20.0]]})


@pytest.mark.parametrize('since', [0, 3, 17])
@pytest.mark.parametrize('count', [0, 1, 5, 20])
def test_the_newest_rows_are_those_written_last(since, count):
  ring = buffer_lib.init(20, {'n': jnp.int32(0)})
  ring = buffer_lib.add(ring, {'n': np.zeros(since, int)})
  ring = buffer_lib.add(ring, {'n': np.ones(count, int)})
  new = buffer_lib.newest(ring, jnp.int32(since), added=jnp.int32(count))
  stored = buffer_lib.mask(ring)
  np.testing.assert_array_equal(new, ring.data['n'] * stored)


_UNITS = (1.0, 1e-6, 1e-7, 1e-9, 1e-25, 1e9)


def test_predictions_are_the_same_in_every_unit():
  changes = jax.random.normal(jax.random.PRNGKey(0), (500, 1))
  params = jitted.init(
    jax.random.PRNGKey(1), 2, 1, hidden_sizes=(8,), num_models=1
  )
  action = jnp.ones((500, 1))

  def predicted(unit):
    obs = unit * jnp.cumsum(changes, 0)
    found = statistics.fit(
      jnp.concatenate([obs, action], -1),
      unit * changes,
      obs + unit * changes,
      jnp.ones(500),
      clip_margin=None,
    )
    model = jax.tree.map(lambda x: x[0], jitted.fold(params, found))
    _, predicted = jitted.predict(model, (), obs[:5], action[:5])
    return (predicted.next_obs - obs[:5]) / unit

  expected = predicted(1.0)
  assert np.all(np.abs(expected) > 1e-3)
  for unit in _UNITS:
    np.testing.assert_allclose(predicted(unit), expected, rtol=1e-3)


def test_what_is_constant_but_for_rounding_is_constant_in_every_unit():
  noise = jax.random.normal(jax.random.PRNGKey(0), (400, 2))
  for unit in _UNITS:
    obs = unit * (1000 + jnp.array([1e-5, 1.0])[None] * noise)
    moments = normalizer.fit(obs, jnp.ones(400))
    assert moments.std[0] == 0
    assert moments.std[1] > 0.5 * unit
    # The same of differences, which know nothing of 1000.
    deltas = normalizer.fit(
      obs[1:] - obs[:-1], jnp.ones(399), size=jnp.full(2, 1000 * unit)
    )
    assert deltas.std[0] == 0
    assert deltas.std[1] > 0.5 * unit


def test_bounds_reach_beyond_what_was_observed_in_large_units():
  obs = 1e8 * jax.random.normal(jax.random.PRNGKey(0), (50, 1))
  found = statistics.fit(obs, 0.1 * obs, obs, jnp.ones(50), clip_margin=None)
  assert found.low[0] < obs.min() and obs.max() < found.high[0]
  assert np.isfinite(jnp.square(found.high[0]))


class _StateDependent(nn.Module):
  """A deviation, or logits, that depend on the state."""

  kind: type

  @nn.compact
  def __call__(self, obs):
    hidden = nn.tanh(nn.Dense(16)(obs))
    if self.kind is distributions.Categorical:
      return self.kind(3 * nn.Dense(2)(hidden))
    return self.kind(nn.Dense(2)(hidden), nn.Dense(2)(hidden))


_KINDS = {
  distributions.Gaussian: distributions.normal_noise,
  distributions.TanhGaussian: distributions.normal_noise,
  distributions.Categorical: distributions.gumbel_noise,
}


@pytest.mark.parametrize('kind', _KINDS)
def test_stored_log_probabilities_are_those_of_the_state(kind, x64):
  """Of real rollouts, by hand for a Gaussian."""
  policy = flax_policy.make(_StateDependent(kind), 2, 2, noise=_KINDS[kind])
  params = policy.init(jax.random.PRNGKey(1))
  trajectory, _ = jax.jit(
    lambda key: real.rollout(
      envs.make('point'), policy, params, key, num_envs=3, horizon=4
    )
  )(jax.random.PRNGKey(2))
  found = np.asarray(trajectory.log_prob)
  densities = policy.over(params, trajectory)
  np.testing.assert_allclose(
    found, densities.log_prob(trajectory.action), atol=1e-8
  )
  assert np.ptp(found) > 1e-2
  if kind is distributions.Gaussian:
    expected = scipy.stats.norm.logpdf(
      trajectory.action, densities.mean, np.exp(densities.log_std)
    ).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


class _Wrong(distributions.Gaussian):
  """Of a deviation that is not the one it samples with."""

  def log_prob_of_noise(self, noise, *, axis=-1):
    first = self._replace(log_std=self.log_std[:1])
    return distributions.Gaussian(*first).log_prob_of_noise(noise)


class _Summed(distributions.Gaussian):
  def log_prob_of_noise(self, noise, *, axis=-1):
    return jnp.sum(distributions.Gaussian(*self).log_prob_of_noise(noise))


class _Broken(distributions.Gaussian):
  def log_prob(self, raw, *, axis=-1):
    raise KeyError('mean')


@pytest.mark.parametrize(
  ('kind', 'said'),
  [
    (_Wrong, r'policy: _Wrong.log_prob of a sampled action is .*, but log_pr'),
    (_Summed, r'policy: log_prob and log_prob_of_noise of 5 actions have shap'),
    (_Broken, 'policy: the log-probability of its actions cannot be computed'),
  ],
)
def test_a_density_that_is_wrong_is_refused(kind, said):
  policy = flax_policy.make(_StateDependent(kind), 2, 2)
  with pytest.raises(config.ConfigError, match=said) as error:
    model_based.check_policy(envs.make('point'), policy)
  assert '\n' not in str(error.value)
