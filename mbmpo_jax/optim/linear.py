"""Linear systems with a symmetric positive definite matrix.

In plain JAX, because of two faults in the libraries: jaxlib 0.10's batched
Cholesky factorisation can deadlock on a CPU, and jax.scipy's conjugate
gradients lose conjugacy in float32.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """The product of vectors or matrices, at the full precision of their type."""
  return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def solve(matrix: jax.Array, vector: jax.Array) -> jax.Array:
  """Solves A x = b by Gauss-Jordan elimination, for a small dense A.

  There is no pivoting, because a positive definite A needs none.

  Args:
    matrix: A, `[D, D]`, symmetric and positive definite.
    vector: b, `[D]`, or several right-hand sides as columns, `[D, M]`.

  Returns:
    x, shaped like b; NaN if A is not positive definite numerically.
  """
  size = vector.shape[0]
  rows = jnp.arange(size)

  def eliminate(index: jax.Array, system: jax.Array) -> jax.Array:
    row = system[index]
    row = row / jnp.where(row[index] > 0, row[index], jnp.nan)
    others = system - system[:, index][:, None] * row[None]
    # Not `.at[index].set`: this is one pass, and the matrices are small.
    return jnp.where((rows == index)[:, None], row[None], others)

  system = jnp.concatenate([matrix, vector.reshape(size, -1)], axis=1)
  solved = jax.lax.fori_loop(0, size, eliminate, system)[:, size:]
  return solved.reshape(vector.shape)


def conjugate_gradient(
  product: Callable[[jax.Array], jax.Array],
  quadratic: Callable[[jax.Array], jax.Array],
  b: jax.Array,
  *,
  iterations: int,
) -> jax.Array:
  """Solves A x = b approximately, from x = 0.

  Every residual is orthogonalised against all previous ones. Otherwise, in
  float32, conjugacy is lost after about seven iterations, and the tenth iterate
  is far off (Golub & Van Loan, section 11.3). After any number of iterations, x
  is orthogonal to the residual up to rounding, and so x'Ax = x'b.

  Args:
    product: v -> A v, A symmetric and positive definite.
    quadratic: v -> v'Av; the last iteration needs only this.
    b: `[D]`.
    iterations: the greatest number, at least 1. Iterations have no effect once
      the residual is rounding error.

  Returns:
    x, `[D]`.
  """
  squared = dot(b, b)
  negligible = jnp.square(jnp.finfo(b.dtype).eps) * squared
  start = (
    jnp.zeros_like(b),
    b,
    b,
    squared,
    jnp.zeros((iterations, b.size), b.dtype),
  )

  def divide(a: jax.Array, b: jax.Array, squared: jax.Array) -> jax.Array:
    """a / b, or 0 once the squared residual `squared` is rounding error."""
    return jnp.where(squared > negligible, a / b, 0.0)

  def iterate(index: jax.Array, state: tuple[jax.Array, ...]) -> Any:
    x, residual, direction, squared, basis = state
    basis = basis.at[index].set(divide(residual, jnp.sqrt(squared), squared))
    image = product(direction)
    length = divide(squared, dot(direction, image), squared)
    x = x + length * direction
    residual = residual - length * image
    residual = residual - dot(dot(basis, residual), basis)
    new_squared = dot(residual, residual)
    turn = divide(new_squared, squared, squared)
    return x, residual, residual + turn * direction, new_squared, basis

  x, _, direction, squared, _ = jax.lax.fori_loop(
    0, iterations - 1, iterate, start
  )
  return x + divide(squared, quadratic(direction), squared) * direction
