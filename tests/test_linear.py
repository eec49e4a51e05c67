"""Linear systems, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.optim import linear

_SIZE = 12
_BATCH = 5

_solve = jax.jit(jax.vmap(linear.solve))


def _systems(condition: float) -> tuple[np.ndarray, ...]:
  """Positive definite matrices of one condition number, solutions, products."""
  rng = np.random.default_rng(0)
  basis, _ = np.linalg.qr(rng.normal(size=(_BATCH, _SIZE, _SIZE)))
  spectrum = np.geomspace(1.0, 1 / condition, _SIZE)
  matrices = basis * spectrum @ np.swapaxes(basis, 1, 2)
  solutions = rng.normal(size=(_BATCH, _SIZE))
  return matrices, solutions, np.einsum('bij,bj->bi', matrices, solutions)


@pytest.mark.parametrize('condition', [1.0, 1e3, 1e8])
def test_solve_in_double_precision(x64, condition):
  matrices, solutions, vectors = _systems(condition)
  np.testing.assert_allclose(
    _solve(matrices, vectors), solutions, rtol=0, atol=1e-13 * condition
  )


@pytest.mark.parametrize('condition', [1.0, 1e3, 1e6])
def test_solve_in_single_precision(condition):
  """The residual is rounding error, whatever the condition number."""
  matrices, _, vectors = _systems(condition)
  actual = _solve(*(jnp.asarray(x, jnp.float32) for x in (matrices, vectors)))
  assert actual.dtype == jnp.float32
  products = np.einsum('bij,bj->bi', matrices, np.asarray(actual, float))
  np.testing.assert_allclose(products, vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize('smallest', [0.0, -1.0])
def test_solve_refuses_what_is_not_positive_definite(smallest):
  """And the other systems of the batch do not suffer."""
  matrices = np.stack([np.diag([1.0, smallest, 1.0]), np.eye(3)])
  actual = _solve(matrices, np.ones((2, 3)))
  assert np.all(np.isnan(actual[0]))
  np.testing.assert_array_equal(actual[1], np.ones(3))


def _conjugate_gradient(matrix, vector, iterations):
  return linear.conjugate_gradient(
    lambda v: linear.dot(matrix, v),
    lambda v: linear.dot(v, linear.dot(matrix, v)),
    jnp.asarray(vector, matrix.dtype),
    iterations=iterations,
  )


def test_conjugate_gradient(x64):
  """Exact after as many iterations as unknowns; x'Ax is x'b after any number.

  And no other vector of the Krylov space is nearer to the solution, by A.
  """
  matrices, solutions, vectors = _systems(1e3)
  matrix, b = matrices[0], vectors[0]
  for iterations in (1, 2, _SIZE // 2, _SIZE):
    actual = _conjugate_gradient(jnp.asarray(matrix), b, iterations)
    powers = [np.linalg.matrix_power(matrix, i) @ b for i in range(iterations)]
    space, _ = np.linalg.qr(np.stack(powers, -1))
    nearest = space @ np.linalg.solve(space.T @ matrix @ space, space.T @ b)
    np.testing.assert_allclose(actual, nearest, rtol=0, atol=1e-6)
    np.testing.assert_allclose(actual @ matrix @ actual, actual @ b, rtol=1e-9)
    exact = np.allclose(actual, solutions[0], rtol=0, atol=1e-9)
    assert exact == (iterations == _SIZE)


def test_conjugate_gradient_needs_no_product_in_its_last_iteration():
  """A single one never asks for A v."""
  diagonal = jnp.asarray([1.0, 2.0, 4.0])

  def one_iteration(scale):
    return linear.conjugate_gradient(
      lambda v: jnp.nan * v,
      lambda v: scale * linear.dot(v, diagonal * v),
      jnp.ones(3),
      iterations=1,
    )

  np.testing.assert_allclose(one_iteration(1.0), np.full(3, 3 / 7), rtol=1e-6)
  np.testing.assert_allclose(one_iteration(2.0), np.full(3, 3 / 14), rtol=1e-6)


def test_conjugate_gradient_in_single_precision():
  """Ten iterations lose no conjugacy: they end where double precision does.

  A few large eigenvalues over many small ones, as of a policy's curvature;
  without the orthogonalisation the error is 17%.
  """
  spectrum = np.r_[np.geomspace(1.0, 1e-3, 6), np.geomspace(2e-5, 1e-5, 94)]
  vector = np.random.default_rng(1).normal(size=100)

  def ten_iterations(dtype):
    return _conjugate_gradient(
      jnp.asarray(np.diag(spectrum), dtype), vector, 10
    )

  with jax.enable_x64(True):
    expected = np.asarray(ten_iterations(float))
  actual = np.asarray(ten_iterations(jnp.float32), float)
  error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
  assert error < 1e-4
