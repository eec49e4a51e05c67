"""Normaliser, ensemble and fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import normalizer

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


def test_folded_model_predicts_what_the_parts_do(x64):
  keys = jax.random.split(jax.random.PRNGKey(0), 7)
  params = ensemble.init(keys[0], 5, 3, hidden_sizes=(8, 8), num_models=2)
  params = jax.tree.map(
    lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params
  )
  inputs = normalizer.Moments(*jax.random.uniform(keys[1], (2, 5), minval=0.5))
  deltas = normalizer.Moments(*jax.random.uniform(keys[2], (2, 3), minval=0.5))
  wide = jnp.full(3, 1e3)
  model = ensemble.fold(params, inputs, deltas, -wide, wide)
  obs = jax.random.normal(keys[3], (4, 3))
  action = jax.random.normal(keys[4], (4, 2))
  for member in range(2):
    one = jax.tree.map(lambda x, member=member: x[member], model)
    _, next_obs, _ = ensemble.predict(one, None, obs, action)
    # By hand, unfolded: w = g v / ||v|| per output unit.
    hidden = np.concatenate([obs, action], -1)
    hidden = (hidden - np.asarray(inputs.mean)) / np.asarray(inputs.std)
    for index, layer in enumerate(params):
      v, g, b = (np.asarray(layer[name][member]) for name in 'vgb')
      hidden = np.maximum(hidden, 0) if index else hidden
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
  params = ensemble.init(
    jax.random.PRNGKey(0), 3, 2, hidden_sizes=(8,), num_models=1
  )
  unbounded = jnp.full(2, jnp.inf)
  model = ensemble.fold(
    params, normalizer.identity(3), deltas, -unbounded, unbounded
  )
  one = jax.tree.map(lambda x: x[0], model)
  obs = jnp.asarray(rng.normal(size=(4, 2)))
  _, next_obs, _ = ensemble.predict(one, None, obs, jnp.ones((4, 1)))
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
  jax.jit, static_argnames=('early_stopping', 'validation_fraction')
)
def run_fit(state, max_epochs, early_stopping=False, validation_fraction=0.2):
  inputs, targets = problem()
  return fit_lib.fit_ensemble(
    state,
    inputs,
    targets,
    jnp.arange(_CAPACITY) < _SAMPLES,
    jax.random.PRNGKey(3),
    learning_rate=1e-2,
    batch_size=32,
    validation_fraction=validation_fraction,
    max_epochs=max_epochs,
    early_stopping=early_stopping,
    rolling_persistence=0.5,
  )


@pytest.fixture(scope='module')
def start() -> fit_lib.FitState:
  params = ensemble.init(
    jax.random.PRNGKey(0), 4, 2, hidden_sizes=(32,), num_models=_NUM_MODELS
  )
  return fit_lib.init(params)


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


def test_all_members_at_once_fit_as_in_turn(start, monkeypatch):
  """What other devices than a CPU run, early stops at different epochs."""
  in_turn = run_fit(start, 60, early_stopping=True)
  monkeypatch.setattr(
    jax.lax, 'platform_dependent', lambda *args, cpu, default: default(*args)
  )
  fit = functools.partial(run_fit.__wrapped__, early_stopping=True)
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
  np.testing.assert_array_equal(state.adam.count, [1] * _NUM_MODELS)
