"""The Gaussian policy, against the reference and against its own samples."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import tiny

from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import gaussian
from mbmpo_jax.policies import mlp
from mbmpo_jax.policies import samples_last

_TOLERANCE = {'float32': 2e-5, 'float64': 1e-12}


@pytest.fixture(params=sorted(_TOLERANCE))
def tolerance(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
  """Runs the test in both precisions; what to allow in each."""
  allowed = _TOLERANCE[request.param]
  with jax.enable_x64(request.param == 'float64'):
    yield {'rtol': allowed, 'atol': allowed}


@pytest.fixture
def rng() -> np.random.Generator:
  return np.random.default_rng(1)


def _to_jax(params: reference.Params) -> reference.Params:
  """Arrays of the precision in force."""
  return jax.tree.map(jnp.asarray, params)


def _dist(params: reference.Params, obs: np.ndarray) -> distributions.Gaussian:
  return gaussian.apply(_to_jax(params), jnp.asarray(obs))


def test_matches_reference(tolerance, rng):
  params, other = (reference.make_params(rng, (3, 5, 4, 2)) for _ in range(2))
  obs, action = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
  dist, moved = _dist(params, obs), _dist(other, obs)

  pairs = (
    (dist.mean, reference.mean(params, obs)),
    (jnp.ravel(dist.log_std), reference.log_std(params)),
    (
      dist.log_prob(jnp.asarray(action)),
      reference.log_prob(params, obs, action),
    ),
    (dist.kl(moved), reference.kl(params, other, obs)),
    (moved.kl(dist), reference.kl(other, params, obs)),
    (dist.entropy()[0], reference.entropy(params)),
  )
  for actual, expected in pairs:
    np.testing.assert_allclose(actual, expected, **tolerance)


def test_gradients_match_reference(tolerance, rng):
  """Of log pi and KL in the parameters: the floor is not in the way."""
  params, other = (reference.make_params(rng, (3, 5, 4, 2)) for _ in range(2))
  obs, action = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))

  def actual(params):
    dist = gaussian.apply(params, jnp.asarray(obs))
    distance = _dist(other, obs).kl(dist)
    return jnp.sum(dist.log_prob(jnp.asarray(action)) + distance)

  def expected(vector):
    new = reference.unflatten(vector, params)
    log_probs = reference.log_prob(new, obs, action)
    return np.sum(log_probs + reference.kl(other, new, obs))

  np.testing.assert_allclose(
    reference.flatten(jax.jit(jax.grad(actual))(_to_jax(params))),
    reference.jacobian(expected, reference.flatten(params)),
    rtol=10 * tolerance['rtol'],
    atol=10 * tolerance['atol'],
  )


def test_leading_axes_are_batch_axes(rng):
  params = _to_jax(reference.make_params(rng))
  obs = jnp.asarray(rng.normal(size=(4, 3, 2)), jnp.float32)
  action = jnp.asarray(rng.normal(size=(4, 3, 2)), jnp.float32)

  def log_prob(obs, action):
    return gaussian.apply(params, obs).log_prob(action)

  batched = log_prob(obs, action)
  assert batched.shape == (4, 3)
  single = [
    [log_prob(obs[i, j], action[i, j]) for j in range(3)] for i in range(4)
  ]
  np.testing.assert_allclose(batched, single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  'batch',
  [
    (),
    pytest.param((7,), marks=pytest.mark.slow),
    pytest.param((4, 3), marks=pytest.mark.slow),
    (2, 3, 5),
  ],
)
def test_many_observations_are_the_same_in_the_other_layout(rng, x64, batch):
  """Values in their places, and derivatives."""
  params = _to_jax(reference.make_params(rng, (3, 5, 4, 2)))
  obs = jnp.asarray(rng.normal(size=(*batch, 3)))
  action = jnp.asarray(rng.normal(size=(*batch, 2)))

  def other_layout(layers, obs):
    output = samples_last.apply(layers, obs.reshape(-1, 3).T)
    return output.T.reshape(*batch, 2)

  def log_prob(params, network_apply):
    mean = network_apply(params['layers'], obs)
    dist = gaussian.to_distribution(mean, params['log_std'])
    return jnp.sum(dist.log_prob(action)), dist.mean

  few, many = (
    jax.value_and_grad(log_prob, has_aux=True)(params, network_apply)
    for network_apply in (mlp.apply, other_layout)
  )
  assert few[0][1].shape == many[0][1].shape == (*batch, 2)
  tiny.assert_close(many, few, rtol=1e-12)


@pytest.mark.parametrize('per_task', [False, True])
def test_biases_spread_over_inputs_change_nothing(rng, x64, per_task):
  """Of four tasks with five inputs each; networks shared, or one for each."""
  layers = _to_jax(reference.make_params(rng, (3, 5, 2)))['layers']
  if per_task:
    layers = jax.tree.map(
      lambda x: jnp.asarray(rng.normal(size=(4, *x.shape))), layers
    )
  x = jnp.asarray(rng.normal(size=(4, 5, 3)))
  spread = mlp.spread(layers, (4, 5))
  assert [layer['b'].shape for layer in spread] == [(4, 5, 5), (4, 5, 2)]
  own = 0 if per_task else None
  spread_axes = [{'w': own, 'b': 0}] * 2
  np.testing.assert_array_equal(
    jax.vmap(mlp.apply, (spread_axes, 0))(spread, x),
    jax.vmap(mlp.apply, (own, 0))(layers, x),
  )


def test_log_prob_along_another_axis(rng):
  mean, action = rng.normal(size=(2, 7, 3))
  log_std = rng.normal(size=(1, 3))
  rows = distributions.Gaussian(mean, log_std).log_prob(action)
  columns = distributions.Gaussian(mean.T, log_std.T).log_prob(action.T, axis=0)
  np.testing.assert_allclose(columns, rows, rtol=1e-5)


def test_sample_has_the_moments_of_the_density(rng):
  params = _to_jax(reference.make_params(rng))
  dist = gaussian.apply(params, jnp.ones((1, 2)))
  noise = jax.random.normal(jax.random.PRNGKey(0), (100_000, 2))
  action = dist.sample(noise)

  np.testing.assert_allclose(np.mean(action, 0), dist.mean[0], atol=0.02)
  np.testing.assert_allclose(
    np.std(action, 0), np.exp(dist.log_std[0]), rtol=0.01
  )
  np.testing.assert_allclose(
    -np.mean(dist.log_prob(action)),
    dist.entropy()[0],
    atol=0.02,
  )


def test_log_prob_of_noise_is_log_prob_of_its_action(tolerance, rng):
  params = reference.make_params(rng)
  dist = _dist(params, rng.normal(size=(7, 2)))
  noise = jnp.asarray(rng.normal(size=(7, 2)))
  np.testing.assert_allclose(
    dist.log_prob_of_noise(noise),
    dist.log_prob(dist.sample(noise)),
    **tolerance,
  )


def test_kl_of_a_policy_from_itself_is_flat_zero(rng):
  params = _to_jax(reference.make_params(rng))
  obs = jnp.asarray(rng.normal(size=(7, 2)), jnp.float32)

  def distance(new):
    old = gaussian.apply(params, obs)
    return jnp.sum(old.kl(gaussian.apply(new, obs)))

  value, slope = jax.value_and_grad(distance)(params)
  assert value == 0
  assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize('shift', [1e-2, 1e-3, 1e-4])
def test_small_kl_survives_single_precision(shift):
  """One adaptation step moves the policy by a KL of 1e-7 or so."""
  old = distributions.Gaussian(jnp.zeros(1), jnp.zeros(1))
  new = distributions.Gaussian(jnp.zeros(1), jnp.full(1, shift))
  exact = shift + 0.5 * np.expm1(-2 * np.float64(shift))
  np.testing.assert_allclose(old.kl(new), exact, rtol=1e-2)


@pytest.mark.parametrize('min_std', [1e-6, 0.5])
def test_std_has_a_floor(min_std, rng):
  params = reference.make_params(rng)
  params['log_std'] = np.array([-30.0, 0.2])
  dist = gaussian.apply(_to_jax(params), jnp.ones(2), min_std=min_std)
  expected = reference.log_std(params, min_std)
  np.testing.assert_allclose(dist.log_std, expected, rtol=1e-6)

  def entropy(params):
    return gaussian.apply(params, jnp.ones(2), min_std=min_std).entropy()

  slope = jax.grad(entropy)(_to_jax(params))
  np.testing.assert_array_equal(slope['log_std'], [0.0, 1.0])


def test_fixed_std_has_no_gradient(rng):
  params = _to_jax(reference.make_params(rng))

  def log_prob(params, learn_std):
    dist = gaussian.apply(params, jnp.ones(2), learn_std=learn_std)
    return dist.log_prob(jnp.ones(2))

  assert log_prob(params, True) == log_prob(params, False)
  learned = jax.grad(log_prob)(params, True)
  fixed = jax.grad(log_prob)(params, False)
  assert np.all(learned['log_std'] != 0)
  assert np.all(fixed['log_std'] == 0)
  for layer, same in zip(learned['layers'], fixed['layers'], strict=True):
    np.testing.assert_allclose(layer['w'], same['w'], rtol=1e-6)


def test_init():
  params = gaussian.init(
    jax.random.PRNGKey(0), 17, 6, hidden_sizes=(32, 16), init_std=0.5
  )
  shapes = [layer['w'].shape for layer in params['layers']]
  assert shapes == [(17, 32), (32, 16), (16, 6)]
  for layer in params['layers']:
    bound = np.sqrt(6 / sum(layer['w'].shape))
    # Uniform: inside the bound, and close to it somewhere.
    assert 0.9 * bound < np.max(np.abs(layer['w'])) <= bound
    assert np.all(layer['b'] == 0)
    assert layer['b'].shape == layer['w'].shape[1:]
  np.testing.assert_allclose(np.exp(params['log_std']), np.full(6, 0.5))
  weights = [np.ravel(layer['w'])[:8] for layer in params['layers']]
  assert len({tuple(w) for w in weights}) == 3, 'layers share a key'
