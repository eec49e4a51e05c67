"""Normaliser, ensemble, and the training of its members."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mbmpo_jax import backend
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.models import early_stopping
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import statistics as statistics_lib
from tests import jitted

_NUM_MODELS, _CAPACITY, _SAMPLES = 3, 300, 250


def test_moments_are_of_the_live_rows():
  rng = np.random.default_rng(0)
  samples = rng.normal(1000.0, 0.5, (200, 2)).astype(np.float32)
  samples[:, 1] = 7.0  # constant: std 0
  samples[150:] = np.nan
  mask = (np.arange(200) < 150).astype(np.float32)
  moments = normalizer.fit(jnp.asarray(samples), jnp.asarray(mask))
  live = samples[:150].astype(np.float64)
  np.testing.assert_allclose(moments.mean, live.mean(0), rtol=1e-6)
  np.testing.assert_allclose(moments.std[0], live[:, 0].std(), rtol=1e-4)
  assert moments.std[1] == 0


@pytest.mark.parametrize(
  ('name', 'activation'),
  [
    ('relu', lambda x: np.maximum(x, 0)),
    ('swish', lambda x: x / (1 + np.exp(-x))),
    ('tanh', np.tanh),
  ],
)
def test_folded_model_predicts_what_the_parts_do(x64, name, activation):
  keys = jax.random.split(jax.random.PRNGKey(0), 7)
  params = jitted.init(keys[0], 5, 3, hidden_sizes=(8, 8), num_models=2)
  params = jax.tree.map(
    lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params
  )
  inputs = normalizer.Moments(*jax.random.uniform(keys[1], (2, 5), minval=0.5))
  deltas = normalizer.Moments(*jax.random.uniform(keys[2], (2, 3), minval=0.5))
  wide = jnp.full(3, 1e3)
  model = jitted.fold(
    params, statistics_lib.Statistics(inputs, deltas, -wide, wide)
  )
  obs = jax.random.normal(keys[3], (4, 3))
  action = jax.random.normal(keys[4], (4, 2))
  for member in range(2):
    one = jax.tree.map(lambda x, member=member: x[member], model)
    _, (next_obs, reward, terminated, _) = jitted.predict(
      one, (), obs, action, activation=name
    )
    assert reward is None
    assert terminated is None
    # By hand, unfolded: w = g v / ||v|| per output unit.
    hidden = np.concatenate([obs, action], -1)
    hidden = (hidden - np.asarray(inputs.mean)) / np.asarray(inputs.std)
    for index, layer in enumerate(params):
      v, g, b = (np.asarray(layer[name][member]) for name in 'vgb')
      hidden = activation(hidden) if index else hidden
      hidden = hidden @ (g * v / np.sqrt((v**2).sum(0))) + b
    delta = np.asarray(deltas.mean) + np.asarray(deltas.std) * hidden
    expected = np.asarray(obs) + delta
    np.testing.assert_allclose(next_obs, expected, rtol=1e-10)


def test_what_never_changes_is_predicted_to_stay(x64):
  """A goal: constant within episodes, hence a delta without deviation."""
  rng = np.random.default_rng(0)
  deltas = normalizer.fit(
    jnp.asarray(rng.normal(size=(50, 2)) * [1.0, 0.0]), jnp.ones(50)
  )
  params = jitted.init(
    jax.random.PRNGKey(0), 3, 2, hidden_sizes=(8,), num_models=1
  )
  model = jitted.fold(
    params, statistics_lib.identity(3, 2)._replace(targets=deltas)
  )
  one = jax.tree.map(lambda x: x[0], model)
  obs = jnp.asarray(rng.normal(size=(4, 2)))
  _, (next_obs, *_) = jitted.predict(one, (), obs, jnp.ones((4, 1)))
  np.testing.assert_array_equal(next_obs[:, 1], obs[:, 1])
  assert np.all(next_obs[:, 0] != obs[:, 0])


def problem() -> tuple[jax.Array, jax.Array]:
  """A noisy non-linear map, so that overfitting sets in."""
  rng = np.random.default_rng(1)
  inputs = rng.normal(size=(_CAPACITY, 4))
  clean = np.sin(2 * inputs[:, :2]) + inputs[:, 2:] * inputs[:, :1]
  targets = clean + 0.5 * rng.normal(size=clean.shape)
  inputs[_SAMPLES:] = targets[_SAMPLES:] = np.nan  # slots never written
  return jnp.asarray(inputs, jnp.float32), jnp.asarray(targets, jnp.float32)


@functools.partial(
  jax.jit,
  static_argnames=(
    'early_stopping',
    'validation_fraction',
    'max_gradient_steps',
    'batch_size',
    'patience',
    'validation_loss',
    'bootstrap',
  ),
)
def run_fit(state, max_epochs, **changes):
  inputs, targets = problem()
  params, optimizer_state, info = early_stopping.train(
    *state,
    inputs,
    targets,
    jnp.arange(_CAPACITY) < _SAMPLES,
    jax.random.PRNGKey(3),
    loss=ensemble.loss,
    optimizer=optax.adam(1e-2),
    max_epochs=max_epochs,
    **{
      'early_stopping': False,
      'validation_fraction': 0.2,
      'batch_size': 32,
      'rolling_persistence': 0.5,
      **changes,
    },
  )
  return fit_lib.FitState(params, optimizer_state), info


@pytest.fixture(scope='module')
def start() -> fit_lib.FitState:
  section = config_lib.Ensemble(num_models=_NUM_MODELS, hidden_sizes=(32,))
  dynamics = ensemble.make(envs.make('point'), section)
  return fit_lib.init(dynamics, optax.adam(1e-2), jax.random.PRNGKey(0))


def test_fit_learns_every_member(start):
  _, first = run_fit(start, 1)
  _, info = run_fit(start, 60)
  # The targets' variance is about 1.75, of which 0.25 is noise.
  assert np.all(first.val_loss > 1.0)
  assert np.all(info.val_loss < 0.65)
  assert len(np.unique(info.val_loss)) == _NUM_MODELS
  np.testing.assert_array_equal(info.epochs, 60)


def test_each_member_stops_by_the_rule_and_keeps_what_it_had(start):
  most = 60
  stopped, info = run_fit(start, most, early_stopping=True)
  history = [run_fit(start, epochs) for epochs in range(1, most + 1)]
  losses = np.stack([np.asarray(i.val_loss, np.float64) for _, i in history])
  for member in range(_NUM_MODELS):
    rolling = 1.5 * losses[0, member]
    epoch = 0
    for loss in losses[:, member]:
      epoch += 1
      rolling = 0.5 * rolling + 0.5 * loss
      if loss > rolling:
        break
    assert int(info.epochs[member]) == epoch
    assert 1 < epoch < most
    same = history[epoch - 1][0]
    for kept, trained in zip(
      jax.tree.leaves(stopped), jax.tree.leaves(same), strict=True
    ):
      np.testing.assert_array_equal(kept[member], trained[member])
  assert len(set(info.epochs.tolist())) > 1


def test_with_patience_a_member_keeps_its_best_parameters(start):
  """And stops after so many epochs without a loss that is 1% lower."""
  patience, most = 4, 60
  stopped, info = run_fit(start, most, early_stopping=True, patience=patience)
  history = [run_fit(start, epochs) for epochs in range(1, most + 1)]
  losses = np.stack([np.asarray(i.val_loss, np.float64) for _, i in history])
  for member in range(_NUM_MODELS):
    best, best_epoch = np.inf, 0
    for epoch, loss in enumerate(losses[:, member], 1):
      if loss < 0.99 * best:
        best, best_epoch = loss, epoch
      if epoch - best_epoch == patience:
        break
    assert int(info.epochs[member]) == epoch < most
    np.testing.assert_allclose(info.val_loss[member], best, rtol=1e-6)
    same = history[best_epoch - 1][0]
    for kept, trained in zip(
      jax.tree.leaves(stopped), jax.tree.leaves(same), strict=True
    ):
      np.testing.assert_array_equal(kept[member], trained[member])
  assert len(set(info.epochs.tolist())) > 1


def test_members_may_be_validated_by_another_function(start):
  """By a constant: no epoch is better than the first."""

  def constant(params, inputs, targets, weight, key):
    del params, inputs, targets, key
    return jnp.sum(weight)

  stopped, info = run_fit(
    start, 60, early_stopping=True, patience=4, validation_loss=constant
  )
  np.testing.assert_array_equal(info.epochs, 5)
  np.testing.assert_allclose(info.val_loss, 1.0, rtol=1e-6)
  first, _ = run_fit(start, 1)
  jax.tree.map(np.testing.assert_array_equal, stopped, first)


def test_a_bootstrap_trains_on_draws_of_rows_that_are_not_held_out():
  """Gradients count how often a row is trained on, and losses on which."""
  num, epochs = 200, 7

  def loss(params, inputs, targets, weight, key):
    del targets, key
    return jnp.sum((inputs @ params) * weight)

  def counts(bootstrap):
    params = jnp.zeros((2, num))
    after, _, info = early_stopping.train(
      params,
      jax.vmap(optax.sgd(1.0).init)(params),
      jnp.eye(num),
      jnp.zeros((num, 1)),
      jnp.ones(num),
      jax.random.PRNGKey(1),
      loss=loss,
      optimizer=optax.sgd(1.0),
      batch_size=1,
      validation_fraction=0.2,
      max_epochs=epochs,
      early_stopping=False,
      bootstrap=bootstrap,
    )
    return np.round(-np.asarray(after)).astype(int), np.asarray(info.val_loss)

  whole, _ = counts(False)
  drawn, held = counts(True)
  assert whole.sum() == drawn.sum() == 2 * epochs * 160
  assert set(np.unique(whole)) == {0, epochs}
  # The draws are the same in every epoch, and none is held out.
  assert np.all(drawn % epochs == 0) and np.max(drawn) >= 3 * epochs
  assert np.all(drawn[whole == 0] == 0) and np.all(held == 0)
  missing = np.sum((drawn == 0) & (whole > 0), 1) / 160
  np.testing.assert_allclose(missing, np.exp(-1), atol=0.12)
  assert np.any(drawn[0] != drawn[1])


def test_all_members_at_once_fit_as_in_turn(start, monkeypatch):
  """What other devices than a CPU run, early stops at different epochs."""
  limits = {'early_stopping': True, 'max_gradient_steps': 100}
  in_turn = run_fit(start, 60, **limits)
  monkeypatch.setattr(
    backend,
    'in_turn_or_at_once',
    lambda in_turn, at_once, *members: at_once(*members),
  )
  fit = functools.partial(run_fit.__wrapped__, **limits)
  at_once = jax.jit(fit, static_argnums=1)(start, 60)
  assert len(set(at_once[1].epochs.tolist())) > 1
  np.testing.assert_array_equal(at_once[1].epochs, in_turn[1].epochs)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
    at_once,
    in_turn,
  )


def test_members_hold_out_different_rows(start):
  same = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * _NUM_MODELS), start)
  _, info = run_fit(same, 1)
  assert len(np.unique(info.val_loss)) == _NUM_MODELS


def test_a_non_finite_member_stops_alone(start):
  broken = start._replace(
    params=jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), start.params)
  )
  state, info = run_fit(broken, 3)
  reference, _ = run_fit(start, 3)
  np.testing.assert_array_equal(info.rejected, [False, True, False])
  np.testing.assert_array_equal(info.epochs, [3, 0, 3])
  for leaf, expected in zip(
    jax.tree.leaves(state), jax.tree.leaves(reference), strict=True
  ):
    for member in (0, 2):
      np.testing.assert_array_equal(leaf[member], expected[member])


def test_first_step_is_adams(start):
  """One batch of one epoch: every parameter moves by about the step size."""
  state, _ = run_fit(start, 1, validation_fraction=0.9)  # 25 rows: one batch
  for path, leaf in jax.tree.leaves_with_path(state.params):
    before = dict(jax.tree.leaves_with_path(start.params))[path]
    moved = np.abs(leaf - before)
    np.testing.assert_allclose(moved[moved > 0], 1e-2, rtol=0.05)
    assert (moved > 0).mean() > 0.9
  np.testing.assert_array_equal(state.optimizer[0].count, [1] * _NUM_MODELS)


# 200 rows train in batches of 32: an epoch has 7 steps.
@pytest.mark.parametrize(
  ('limit', 'epochs'), [(5, 1), (21, 3), (22, 4), (100, 5)]
)
def test_gradient_steps_are_limited_exactly(start, limit, epochs):
  """In the middle of an epoch or at its end, whichever limit is first."""
  state, info = run_fit(start, 5, max_gradient_steps=limit)
  steps = min(limit, 5 * 7)
  for count in (state.optimizer[0].count, info.gradient_steps):
    np.testing.assert_array_equal(count, [steps] * _NUM_MODELS)
  np.testing.assert_array_equal(info.epochs, [epochs] * _NUM_MODELS)
  assert np.all(np.isfinite(info.val_loss))


def test_members_stop_early_below_the_limit_too(start):
  """One that stops leaves the others their steps."""
  _, free = run_fit(start, 60, early_stopping=True)
  limit = int(np.max(free.gradient_steps)) - 3
  _, info = run_fit(start, 60, early_stopping=True, max_gradient_steps=limit)
  np.testing.assert_array_equal(
    info.gradient_steps, np.minimum(free.gradient_steps, limit)
  )
  assert np.min(info.gradient_steps) < limit == np.max(info.gradient_steps)
  np.testing.assert_array_equal(free.gradient_steps, 7 * free.epochs)


@pytest.mark.parametrize('capacity', [1_000, 16_000])
def test_a_limited_fit_does_not_cost_more_with_more_data(capacity):
  """Minibatches computed, of gradients and of validation, are counted."""
  seen = []

  def loss(params, inputs, targets, weight, key):
    del key
    jax.debug.callback(lambda weight: seen.append(len(weight)), weight)
    error = inputs @ params - targets
    return jnp.sum(jnp.mean(jnp.square(error), -1) * weight)

  rows = jax.random.normal(jax.random.PRNGKey(0), (capacity, 3))
  params = jnp.zeros((2, 3, 3))
  optimizer = optax.sgd(1e-2)
  _, _, info = early_stopping.train(
    params,
    jax.vmap(optimizer.init)(params),
    rows,
    rows,
    jnp.ones(capacity),
    jax.random.PRNGKey(1),
    loss=loss,
    optimizer=optimizer,
    batch_size=10,
    validation_fraction=0.2,
    max_epochs=100,
    max_gradient_steps=40,
    early_stopping=False,
  )
  jax.effects_barrier()
  np.testing.assert_array_equal(info.gradient_steps, [40, 40])
  # Of two members, 40 steps, and 101 rows held out.
  assert seen == [10] * 2 * (40 + 11)


def test_a_loss_draws_anew_in_every_step_and_the_same_in_validation():
  """And of every member its own; one batch is one step."""

  def loss(params, inputs, targets, weight, key):
    del inputs, targets
    # Its gradient is the noise; its value, too.
    return jnp.sum(weight) * jax.random.normal(key) * (params + 1)

  def train(max_epochs):
    params = jnp.zeros(2)
    return early_stopping.train(
      params,
      jax.vmap(optax.sgd(1e-9).init)(params),
      jnp.zeros((10, 1)),
      jnp.zeros((10, 1)),
      jnp.ones(10),
      jax.random.PRNGKey(0),
      loss=loss,
      optimizer=optax.sgd(1e-9),
      batch_size=10,
      validation_fraction=0.5,
      max_epochs=max_epochs,
      early_stopping=False,
    )

  runs = [train(epochs) for epochs in (1, 2, 3)]
  noise = np.diff(np.stack([np.zeros(2), *(run[0] for run in runs)]), axis=0)
  assert len(np.unique(noise)) == 6
  losses = np.stack([run[2].val_loss for run in runs])
  np.testing.assert_allclose(losses[1:], losses[:1].repeat(2, 0), rtol=1e-5)
  assert losses[0, 0] != losses[0, 1]


# --- statistics


def test_bounds_are_the_range_widened_and_finite():
  next_obs = jnp.array([[0.0, 5.0], [10.0, 5.0], [1e8, 1e8]])
  targets = jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, 1e8]])
  valid = jnp.array([1.0, 1.0, 0.0])
  fit = functools.partial(statistics_lib.fit, targets[:, :1], targets, next_obs)
  bounded = fit(valid, clip_margin=0.5)
  # The second never changes: a goal.
  np.testing.assert_array_equal(bounded.low, [-5.0, -1e6])
  np.testing.assert_array_equal(bounded.high, [15.0, 1e6])
  free = fit(valid, clip_margin=None)
  np.testing.assert_array_equal(free.low, [-1e6] * 2)
  np.testing.assert_array_equal(free.high, [1e6] * 2)
  unknown = fit(jnp.array([1.0, 0.0, 0.0]), clip_margin=None)
  assert np.all(np.isnan([unknown.low, unknown.high]))
