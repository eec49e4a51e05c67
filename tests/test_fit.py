"""Fitting a dynamics model to a buffer, whatever has got into either."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import statistics as statistics_lib

_MEMBERS, _CAPACITY, _STORED = 2, 60, 40
_KEY = jax.random.PRNGKey(2)
_SECTION = config_lib.Ensemble(
  num_models=_MEMBERS, hidden_sizes=(16,), batch_size=8, max_epochs=5
)
_ENV = envs.make('point')
_DYNAMICS = ensemble.make(_ENV, _SECTION)


def fit(state, data, learning_rate=1e-2):
  # An argument always: one program serves all.
  return _fit(state, data, learning_rate)


@jax.jit
def _fit(state, data, learning_rate):
  return fit_with(state, optax.adam(learning_rate), data)


def fit_with(
  state, optimizer, data, dynamics=_DYNAMICS, section=_SECTION, **options
):
  return fit_lib.fit_dynamics(
    state,
    dynamics,
    optimizer,
    data,
    (jnp.arange(_CAPACITY) < _STORED).astype(float),
    _KEY,
    section=section,
    rolling_persistence=0.95,
    model_input=_ENV.model_input,
    **options,
  )


@pytest.fixture(scope='module')
def start() -> fit_lib.FitState:
  return fit_lib.init(_DYNAMICS, optax.adam(1e-2), jax.random.PRNGKey(0))


@pytest.fixture(scope='module')
def data() -> types.Transition:
  """Steps of the point; slots never written hold NaN."""
  rng = np.random.default_rng(0)
  obs, action = rng.uniform(-1, 1, (2, _CAPACITY, 2))
  zeros = np.zeros(_CAPACITY)
  transitions = types.Transition(
    obs=obs, action=action, reward=zeros, next_obs=obs + 0.1 * action,
    terminated=zeros, truncated=zeros, episode=zeros, time=zeros,
  )  # fmt: skip
  return jax.tree.map(
    lambda x: jnp.asarray(x, float).at[_STORED:].set(jnp.nan), transitions
  )


@pytest.fixture(scope='module')
def healthy(start, data) -> tuple[fit_lib.FitState, ensemble.Model, dict]:
  return fit(start, data)


def member(tree, index: int):
  return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_same(tree, expected) -> None:
  jax.tree.map(np.testing.assert_array_equal, tree, expected)


def assert_finite(tree) -> None:
  for path, leaf in jax.tree.leaves_with_path(tree):
    assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


def test_what_a_fit_reports(healthy):
  state, model, metrics = healthy
  assert_finite((state, model, metrics))
  assert metrics['model/epochs'] == 5
  # 32 rows train in batches of 8.
  assert metrics['model/gradient_steps'] == 5 * 4
  np.testing.assert_array_equal(state.optimizer[0].count, [5 * 4] * _MEMBERS)
  for name in ('model/rejected', 'nonfinite/stored', 'nonfinite/members'):
    assert metrics[name] == 0


def test_a_fitted_model_knows_the_world_better(start, data):
  def error(model):
    _, prediction = jax.vmap(
      lambda model: _DYNAMICS.predict(
        model, (), data.obs[:_STORED], data.action[:_STORED], None
      )
    )(model)
    return jnp.mean(
      jnp.abs(prediction.next_obs - data.next_obs[:_STORED][None])
    )

  before = _DYNAMICS.ready(start.params, statistics_lib.before_data(_ENV))
  state = start
  for _ in range(10):
    state, model, _ = fit(state, data)
  # A step moves by 0.05 on average.
  assert error(model) < 0.01 < 0.1 < error(before)


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e30])
@pytest.mark.parametrize('poisoned', [0, 1])
def test_a_member_that_is_not_finite_starts_anew(
  start, data, healthy, poisoned, value
):
  """And learns; the other's fit is to the bit what it was."""
  leaves, treedef = jax.tree.flatten(start)
  other = 1 - poisoned
  for index, leaf in enumerate(leaves):
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
      continue
    where = (poisoned, *(0 for _ in leaf.shape[1:]))
    spoilt = [*leaves]
    spoilt[index] = leaf.at[where].set(value)
    state, model, metrics = fit(jax.tree.unflatten(treedef, spoilt), data)
    assert metrics['nonfinite/members'] == 1
    assert metrics['model/rejected'] == 0
    assert_finite((state, model))
    assert_same(member(state, other), member(healthy[0], other))
    assert_same(state.optimizer[0].count, healthy[0].optimizer[0].count)


def test_directions_of_no_length_start_anew_too(start, data):
  """Finite themselves; g v / ||v|| is not."""
  layer = start.params[0] | {'v': start.params[0]['v'].at[1, :, 3].set(0.0)}
  state, model, metrics = fit(
    start._replace(params=(layer, *start.params[1:])), data
  )
  assert metrics['nonfinite/members'] == 1
  assert_finite((state, model))


def test_new_members_differ_from_each_other_and_from_the_last(start, data):
  broken = jax.tree.map(
    lambda x: x if x.dtype == jnp.int32 else jnp.full_like(x, jnp.nan), start
  )
  state, _, metrics = fit(broken, data)
  assert metrics['nonfinite/members'] == _MEMBERS
  new = state.params[0]['v']
  assert not np.any(new[0] == new[1])
  assert not np.any(np.isclose(new, start.params[0]['v']))


def test_losses_that_are_not_finite_leave_members_as_they_were(start, data):
  state, _, metrics = fit(start, data, jnp.nan)
  assert metrics['model/rejected'] == _MEMBERS
  assert metrics['model/gradient_steps'] == 0
  assert_same(state, start)


@pytest.mark.parametrize('field', ['obs', 'action', 'reward', 'next_obs'])
def test_a_stored_transition_that_is_not_finite_is_not_used(
  start, data, healthy, field
):
  """Whatever is in its place, the fit is the same to the bit."""
  fitted = []
  for value in (np.nan, np.inf, -1e30):
    leaf = getattr(data, field)
    where = (7, *(0 for _ in leaf.shape[1:]))
    state, model, metrics = fit(
      start, data._replace(**{field: leaf.at[where].set(value)})
    )
    assert metrics['nonfinite/stored'] == 1
    assert metrics['model/rejected'] == 0
    assert_finite((state, model))
    fitted.append((state, model))
  assert_same(fitted[1:], [fitted[0]] * 2)
  assert np.any(healthy[1].input_mean != fitted[0][1].input_mean)


@pytest.mark.parametrize('left', [0, 1])
def test_without_data_nothing_is_learned(start, data, left):
  """No member moves, and nothing can be imagined."""
  state, model, metrics = fit(
    start, data._replace(obs=data.obs.at[left:].set(jnp.nan))
  )
  assert metrics['nonfinite/stored'] == _STORED - left
  assert metrics['model/epochs'] == 0
  assert np.isnan(metrics['model/val_loss'])
  assert_same(state, start)
  assert np.all(np.isnan(model.low))


def test_the_best_members_imagine(start, data):
  """All are trained, and those with the lowest validation losses kept."""
  params = jax.tree.map(lambda x: x.at[0].mul(30.0), start.params)
  spoilt = start._replace(params=params)
  fit = functools.partial(fit_with, spoilt, optax.adam(1e-2), data)
  state, model, _ = jax.jit(functools.partial(fit, num_elites=1))()
  _, whole, _ = jax.jit(fit)()
  assert all(x.shape[0] == 2 for x in jax.tree.leaves(state))

  def wrong(model) -> float:
    carry = _DYNAMICS.start(model, _KEY, (), _STORED)
    obs, action = data.obs[:_STORED], data.action[:_STORED]
    _, found = _DYNAMICS.predict(model, carry, obs, action, _KEY)
    return float(jnp.mean(jnp.square(found.next_obs - data.next_obs[:_STORED])))

  first, second = (wrong(member(whole, i)) for i in range(2))
  assert second < 0.5 * first
  assert all(x.shape[0] == 1 for x in jax.tree.leaves(model))
  assert wrong(member(model, 0)) == second


def test_the_best_members_may_be_biased(data):
  """Each has its own bias, whichever members are kept."""
  section = dataclasses.replace(_SECTION, bias_max=0.5)
  dynamics = ensemble.make(_ENV, section)
  optimizer = optax.adam(1e-2)
  state = fit_lib.init(dynamics, optimizer, jax.random.PRNGKey(0))
  fit = functools.partial(
    fit_with, state, optimizer, data, dynamics=dynamics, section=section
  )
  _, few, _ = jax.jit(functools.partial(fit, num_elites=1))()
  _, whole, _ = jax.jit(fit)()
  assert float(few.bias[0]) in whole.bias.tolist()


def test_another_optimizer_fits_too(data, healthy):
  """One that reads the parameters, and keeps its rate in its own state."""
  optimizer = optax.inject_hyperparams(optax.adamw)(
    learning_rate=1e-2, weight_decay=0.0
  )
  state = fit_lib.init(_DYNAMICS, optimizer, jax.random.PRNGKey(0))
  state, *_ = jax.jit(fit_with, static_argnums=1)(state, optimizer, data)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
    state.params,
    healthy[0].params,
  )
