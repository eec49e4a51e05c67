"""K-FAC, against dense Fisher matrices in float64 NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.networks import critics
from mbmpo_jax.networks import mlp as flax_mlp
from mbmpo_jax.optim import kfac
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import mlp

_SIZES = (3, 4, 5, 2)
_STD = np.array([0.5, 2.0])


def random_layers(sizes: tuple[int, ...], rng: np.random.Generator) -> list:
  return [
    {'w': rng.normal(size=(a, b)) / 2, 'b': rng.normal(size=b) / 2}
    for a, b in itertools.pairwise(sizes)
  ]


def run(layers: list, x: np.ndarray) -> tuple[np.ndarray, list, list]:
  """Outputs [B, O], inputs with a 1 of each layer, Jacobians [B, O, units]."""
  inputs, h = [], x
  for index, layer in enumerate(layers):
    if index > 0:
      h = np.tanh(h)
    inputs.append(np.concatenate([h, np.ones((len(h), 1))], 1))
    h = h @ layer['w'] + layer['b']
  jacobian = np.broadcast_to(np.eye(h.shape[1]), (len(x), *[h.shape[1]] * 2))
  jacobians = [jacobian]
  for layer, a in zip(layers[:0:-1], inputs[:0:-1], strict=True):
    slope = 1 - a[:, None, :-1] ** 2
    jacobians.append(jacobians[-1] @ layer['w'].T * slope)
  return h, inputs, jacobians[::-1]


def gaussian(outputs: jax.Array) -> distributions.Gaussian:
  return distributions.Gaussian(outputs, jnp.log(_STD)[None])


def sigma_points(count: int) -> np.ndarray:
  """Noise [2 A, B, A] of mean 0 and covariance I, as a normal one's."""
  points = np.sqrt(2) * np.concatenate([np.eye(2), -np.eye(2)])
  return np.repeat(points[:, None], count, 1)


def enumerated(layers: list, x: np.ndarray) -> list:
  """Factors over all sigma points of the Gaussian policy."""
  return jax.tree.map(np.asarray, kfac.factors_of(at_sigma_points(layers, x)))


def at_sigma_points(layers: list, x: np.ndarray) -> list:
  noise = sigma_points(len(x))
  return record(
    layers, np.tile(x, (len(noise), 1)), noise.reshape(-1, 2), gaussian
  )


@functools.partial(jax.jit, static_argnums=3)
def record(params, x, noise, to_distribution, diagonal=1.0):
  return kfac.record(
    params, x, kfac.sampled(to_distribution, noise), diagonal=diagonal
  )


@functools.partial(jax.jit, static_argnums=2)
def slopes(params, x, activation='tanh'):
  """Recorded of the sum of outputs."""
  return kfac.record(params, x, jnp.sum, activation=activation)


_precondition = jax.jit(kfac.precondition)


def test_the_block_of_one_layer_is_exact(x64):
  """Its output gradients do not depend on its inputs."""
  rng = np.random.default_rng(0)
  layers, x = random_layers((3, 2), rng), rng.normal(size=(7, 3))
  (factors,) = enumerated(layers, x)

  a = np.concatenate([x, np.ones((7, 1))], 1)
  metric = np.diag(_STD**-2)
  block = np.mean([np.kron(np.outer(row, row), metric) for row in a], 0)
  np.testing.assert_allclose(
    np.kron(factors.inputs, factors.gradients), block, rtol=1e-10, atol=1e-12
  )


def test_the_blocks_at_one_input_are_exact(x64):
  """Of all layers, against J' M J with J the Jacobian in the parameters."""
  rng = np.random.default_rng(1)
  layers, x = random_layers(_SIZES, rng), rng.normal(size=(1, 3))
  _, inputs, jacobians = run(layers, x)
  for factors, a, jacobian in zip(
    enumerated(layers, x), inputs, jacobians, strict=True
  ):
    dense = np.kron(a[0], jacobian[0])  # [O, (I + 1) * units]
    block = dense.T @ np.diag(_STD**-2) @ dense
    np.testing.assert_allclose(
      np.kron(factors.inputs, factors.gradients), block, rtol=1e-10, atol=1e-12
    )


def test_the_factors_of_all_layers(x64):
  rng = np.random.default_rng(2)
  layers, x = random_layers(_SIZES, rng), rng.normal(size=(6, 3))
  _, inputs, jacobians = run(layers, x)
  for factors, a, jacobian in zip(
    enumerated(layers, x), inputs, jacobians, strict=True
  ):
    np.testing.assert_allclose(factors.inputs, a.T @ a / 6, rtol=1e-10)
    expected = np.einsum('boi,o,boj->ij', jacobian, _STD**-2, jacobian) / 6
    np.testing.assert_allclose(factors.gradients, expected, rtol=1e-9)


def test_the_factors_of_choices(x64):
  """Sampled with a fixed seed; the Fisher matrix of logits is p - p p'."""
  rng = np.random.default_rng(3)
  layers, x = random_layers((3, 4), rng), rng.normal(size=(1, 3))
  count = 40_000
  noise = rng.gumbel(size=(count, 4))
  samples = record(
    layers, np.tile(x, (count, 1)), noise, distributions.Categorical
  )
  (factors,) = kfac.factors_of(samples)
  logits = run(layers, x)[0][0]
  p = np.exp(logits) / np.sum(np.exp(logits))
  np.testing.assert_allclose(
    factors.gradients, np.diag(p) - np.outer(p, p), atol=4 * 0.5 / 200
  )


def test_the_block_of_a_log_deviation_is_2(x64):
  """The mean square of d log p / d log sigma, exact by quadrature."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(5)
  slope = jax.vmap(
    jax.grad(
      lambda log_std, noise: jnp.sum(
        distributions.Gaussian(jnp.zeros(1), log_std).log_prob(
          jax.lax.stop_gradient(jnp.exp(log_std)) * noise
        )
      )
    ),
    (None, 0),
  )(jnp.array([0.3]), nodes[:, None])
  mean_square = np.sum(slope[:, 0] ** 2 * weights) / np.sum(weights)
  np.testing.assert_allclose(mean_square, 2.0, rtol=1e-12)

  params = {'layers': random_layers((3, 2), np.random.default_rng(4))}
  samples = kfac.record(
    {**params, 'log_std': jnp.zeros(2)}, jnp.ones((1, 3)), jnp.sum, diagonal=2.0
  )
  np.testing.assert_array_equal(samples['log_std'].fisher, [2.0, 2.0])


@pytest.mark.parametrize('activation', sorted(flax_mlp.ACTIVATIONS))
def test_what_is_recorded_gives_the_gradients_of_a_flax_network(
  x64, activation
):
  """Of eleven layers: the tenth comes after the ninth."""
  net = critics.Value((4,) * 11, activation)
  x = jax.random.normal(jax.random.PRNGKey(0), (6, 3))
  params = jax.jit(net.init)(jax.random.PRNGKey(1), x)
  assert len(params['params']['MLP_0']) == 12
  samples = slopes(params, x, activation)
  products = jax.tree.map(
    lambda s: s.inputs.T @ s.gradients,
    samples,
    is_leaf=lambda s: isinstance(s, kfac.Samples),
  )
  gradient = jax.jit(jax.grad(lambda p: jnp.sum(net.apply(p, x))))(params)
  for name, layer in gradient['params']['MLP_0'].items():
    product = products['params']['MLP_0'][name]
    np.testing.assert_allclose(product[:-1], layer['kernel'], rtol=1e-10)
    np.testing.assert_allclose(product[-1], layer['bias'], rtol=1e-10)


def test_what_is_recorded_gives_the_gradients_of_a_policys_network(x64):
  layers = random_layers(_SIZES, np.random.default_rng(5))
  x = np.random.default_rng(6).normal(size=(6, 3))
  samples = slopes(layers, x)
  gradient = jax.jit(jax.grad(lambda p: jnp.sum(mlp.apply(p, x))))(layers)
  for recorded, layer in zip(samples, gradient, strict=True):
    product = recorded.inputs.T @ recorded.gradients
    np.testing.assert_allclose(product[:-1], layer['w'], rtol=1e-10)
    np.testing.assert_allclose(product[-1], layer['b'], rtol=1e-10)


def problem(seed: int) -> tuple[dict, dict, dict]:
  """Parameters, a gradient, and samples, in all kinds of blocks."""
  rng = np.random.default_rng(seed)
  params = {'layers': random_layers(_SIZES, rng), 'log_std': np.zeros(2)}
  gradient = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
  samples = record(
    params, rng.normal(size=(9, 3)), rng.normal(size=(9, 2)), gaussian, 2.0
  )
  return params, gradient, samples


def flat(layer: dict) -> np.ndarray:
  """W by rows, the biases last: as `np.kron(A, G)` has it."""
  return np.concatenate([layer['w'], layer['b'][None]]).ravel()


def damped(samples: kfac.Samples, damping: float) -> tuple[np.ndarray, ...]:
  """A (x) G, with and without damping by halves."""
  a, g = (np.asarray(x.T @ x) / len(x) for x in samples)
  pi = np.sqrt(np.trace(a) / len(a) / (np.trace(g) / len(g)))
  root = np.sqrt(damping)
  both = np.kron(a + pi * root * np.eye(len(a)), g + root / pi * np.eye(len(g)))
  return np.kron(a, g), both


def test_preconditioning_is_the_dense_inverse(x64):
  _, gradient, samples = problem(0)
  step = _precondition(kfac.factors_of(samples), gradient, damping=0.1)
  for layer, slope, recorded in zip(
    step['layers'], gradient['layers'], samples['layers'], strict=True
  ):
    _, matrix = damped(recorded, 0.1)
    np.testing.assert_allclose(
      flat(layer), np.linalg.solve(matrix, flat(slope)), rtol=1e-8
    )
  np.testing.assert_allclose(
    step['log_std'], gradient['log_std'] / 2.1, rtol=1e-12
  )


@pytest.mark.parametrize(('max_kl', 'limited'), [(1e-3, True), (1e6, False)])
def test_the_step_is_scaled_into_the_trust_region(x64, max_kl, limited):
  params, gradient, samples = problem(1)
  optimizer = kfac.kfac(0.3, max_kl=max_kl, damping=0.01)
  state = optimizer.init(params)
  step, state = jax.jit(optimizer.update)(gradient, state, samples=samples)

  direction = np.asarray(gradient['log_std']) / 2.01
  curvature, directions = np.sum(2 * direction**2), []
  for slope, recorded in zip(
    gradient['layers'], samples['layers'], strict=True
  ):
    fisher, matrix = damped(recorded, 0.01)
    directions.append(np.linalg.solve(matrix, flat(slope)))
    curvature += directions[-1] @ fisher @ directions[-1]
  length = min(0.3, np.sqrt(2 * max_kl / curvature))
  assert (length < 0.3) == limited

  np.testing.assert_allclose(state.length, length, rtol=1e-8)
  np.testing.assert_allclose(state.kl, length**2 * curvature / 2, rtol=1e-8)
  for layer, expected in zip(step['layers'], directions, strict=True):
    np.testing.assert_allclose(flat(layer), -length * expected, rtol=1e-8)
  np.testing.assert_allclose(step['log_std'], -length * direction, rtol=1e-8)


def test_means_run_and_momentum_remembers(x64):
  (params, first, before), (_, second, after) = problem(2), problem(3)
  optimizer = kfac.kfac(1.0, max_kl=1e9, damping=0.01, decay=0.4, momentum=0.5)
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  _, state = update(first, state, samples=before)
  factors = kfac.factors_of(before)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
    state.factors,
    factors,
  )
  step, state = update(second, state, samples=after)
  # 1 - 1/2 is above the weight 0.4.
  mixed = jax.tree.map(
    lambda a, b: 0.4 * a + 0.6 * b, factors, kfac.factors_of(after)
  )
  expected = jax.tree.map(
    lambda a, b: -(0.5 * a + b),
    _precondition(factors, first, damping=0.01),
    _precondition(mixed, second, damping=0.01),
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), step, expected
  )


def test_the_kl_of_a_step_is_what_the_fisher_matrix_says(x64):
  """Of one linear layer, where A (x) G is exact."""
  rng = np.random.default_rng(7)
  layers, x = random_layers((3, 2), rng), rng.normal(size=(50, 3))
  gradient = jax.tree.map(lambda x: rng.normal(size=x.shape), layers)
  samples = at_sigma_points(layers, x)
  optimizer = kfac.kfac(1.0, max_kl=0.01, damping=1e-3)
  step, state = jax.jit(optimizer.update)(
    gradient, optimizer.init(layers), samples=samples
  )
  moved = jax.tree.map(lambda a, b: a + b, layers, step)
  before, after = (gaussian(mlp.apply(p, x)) for p in (layers, moved))
  np.testing.assert_allclose(np.mean(before.kl(after)), state.kl, rtol=1e-9)
  np.testing.assert_allclose(state.kl, 0.01, rtol=1e-9)


def test_a_network_that_has_learned_nothing_stays_finite():
  """Zero gradients: the factors of outputs vanish."""
  layers = mlp.init(jax.random.PRNGKey(0), _SIZES)
  samples = jax.tree.map(lambda x: 0 * x, slopes(layers, jnp.ones((4, 3))))
  optimizer = kfac.kfac(1.0, max_kl=0.01, damping=1e-3)
  step, _ = jax.jit(optimizer.update)(
    jax.tree.map(jnp.zeros_like, layers),
    optimizer.init(layers),
    samples=samples,
  )
  assert all(np.all(x == 0) for x in jax.tree.leaves(step))


def test_masked_samples_do_not_count(x64):
  rng = np.random.default_rng(8)
  layers, x = random_layers(_SIZES, rng), rng.normal(size=(6, 3))
  mask = np.array([1.0, 0, 1, 1, 0, 1])

  @jax.jit
  def factors(x, mask):
    return kfac.factors_of(kfac.record(layers, x, jnp.sum, mask=mask))

  some, live = factors(x, mask), factors(x[mask > 0], np.ones(4))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
    some,
    live,
  )
