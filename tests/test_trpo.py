"""The generic trust-region step, on problems small enough to see through.

That of the meta-policy is tested in `test_maml.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from mbmpo_jax import types
from mbmpo_jax.optim import trpo

_rng = np.random.default_rng(5)
_FEATURES = _rng.normal(size=(8, 5))  # of each arm of a bandit
_REWARDS = _rng.normal(size=8)
_THETA = 0.3 * _rng.normal(size=5)


def _log_softmax(logits: Any, xp: Any) -> Any:
  return logits - xp.log(xp.sum(xp.exp(logits)))


def _surrogate(theta: Any, xp: Any = jnp) -> Any:
  """Expected reward of a softmax policy over the arms."""
  policy = xp.exp(_log_softmax(_FEATURES.astype(theta.dtype) @ theta, xp))
  return xp.sum(policy * _REWARDS.astype(theta.dtype))


def _kl(theta: Any, xp: Any = jnp) -> Any:
  """Of that policy from the one at _THETA."""
  old = _log_softmax(_FEATURES @ _THETA, np).astype(theta.dtype)
  new = _log_softmax(_FEATURES.astype(theta.dtype) @ theta, xp)
  return xp.sum(np.exp(old) * (old - new))


def _expected(**settings: Any) -> reference.Step:
  kl = functools.partial(_kl, xp=np)
  surrogate = functools.partial(_surrogate, xp=np)
  hessian = reference.hessian(kl, _THETA)
  return reference.trpo_step(_THETA, surrogate, kl, hessian, **settings)


# A quadratic of known solution: maximise g'd subject to d'Md / 2 <= delta.
_GRADIENT = np.array([1.0, -2.0, 0.5])
_METRIC = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]])


def _linear(params: types.Params) -> jax.Array:
  d = _vector(params)
  return _GRADIENT.astype(d.dtype) @ d


def _quadratic(params: types.Params) -> jax.Array:
  d = _vector(params)
  return 0.5 * d @ _METRIC.astype(d.dtype) @ d


def _vector(params: types.Params) -> jax.Array:
  return jnp.concatenate([params['a'], params['b'][None]])


def _start() -> types.Params:
  return {'a': jnp.zeros(2), 'b': jnp.zeros(())}


@functools.partial(
  jax.jit,
  static_argnames=(
    'surrogate_fn',
    'kl_fn',
    'cg_iterations',
    'curvature_fn',
    'quadratic_fn',
    'max_backtracks',
  ),
)
def _step(
  surrogate_fn: Callable[[types.Params], jax.Array] = _linear,
  kl_fn: Callable[[types.Params], jax.Array] = _quadratic,
  params: types.Params | None = None,
  *,
  max_kl: float = 0.01,
  cg_iterations: int = 10,
  damping: float = 1e-5,
  curvature_fn: Callable[[types.Params], types.Params] | None = None,
  quadratic_fn: Callable[[types.Params], jax.Array] | None = None,
  **settings: Any,
) -> tuple[types.Params, trpo.TrpoInfo]:
  params = _start() if params is None else params
  about = trpo.expand(
    lambda params: (surrogate_fn(params), kl_fn(params)), params
  )
  if curvature_fn is not None:
    about = about._replace(curvature=curvature_fn)
  return trpo.trpo_step(
    params,
    about._replace(quadratic=quadratic_fn),
    max_kl=max_kl,
    cg_iterations=cg_iterations,
    damping=damping,
    **settings,
  )


@pytest.mark.parametrize('max_kl', [1e-3, 0.1, 3.0])
@pytest.mark.parametrize(
  ('cg_iterations', 'damping'), [(2, 1e-5), (10, 1e-5), (10, 1.0)]
)
def test_matches_reference(x64, max_kl, cg_iterations, damping):
  """The bandit: full steps, backtracks, unfinished CG, heavy damping."""
  settings = {
    'max_kl': max_kl,
    'cg_iterations': cg_iterations,
    'damping': damping,
  }
  expected = _expected(**settings)
  theta, info = _step(_surrogate, _kl, jnp.asarray(_THETA), **settings)
  assert info.finite
  assert info.accepted == expected.accepted
  assert info.accepted
  assert info.backtracks == expected.backtracks
  np.testing.assert_allclose(
    theta - _THETA, expected.theta - _THETA, rtol=1e-6, atol=1e-9
  )
  np.testing.assert_allclose(info.kl, _kl(expected.theta, np), rtol=1e-6)
  np.testing.assert_allclose(
    info.surrogate_gain,
    _surrogate(expected.theta, np) - _surrogate(_THETA, np),
    rtol=1e-6,
  )


def test_the_reference_cases_differ():
  """Some of those above take the full step, others search for theirs."""
  steps = [_expected(max_kl=max_kl) for max_kl in (1e-3, 0.1, 3.0)]
  assert {step.backtracks for step in steps} == {0, 1}


def test_single_precision():
  expected = _expected(max_kl=0.1)
  theta, info = _step(
    _surrogate, _kl, jnp.asarray(_THETA, jnp.float32), max_kl=0.1
  )
  assert theta.dtype == jnp.float32
  assert info.backtracks == expected.backtracks
  np.testing.assert_allclose(
    theta - _THETA, expected.theta - _THETA, rtol=1e-3, atol=1e-5
  )


def test_known_solution_on_any_pytree(x64):
  """sqrt(2 delta / g'M^-1 g) M^-1 g, which lies on the region's border."""
  # The full step touches the border: without slack, rounding may reject it.
  params, info = _step(
    kl_fn=lambda params: (1 - 1e-6) * _quadratic(params), damping=0.0
  )
  natural = np.linalg.solve(_METRIC, _GRADIENT)
  expected = np.sqrt(0.02 / (_GRADIENT @ natural)) * natural
  assert jax.tree.structure(params) == jax.tree.structure(_start())
  assert info.backtracks == 0
  np.testing.assert_allclose(_vector(params), expected, rtol=1e-5)
  np.testing.assert_allclose(info.kl, 0.01, rtol=1e-5)


def test_damping_is_added_to_the_curvature(x64):
  params, _ = _step(cg_iterations=3, damping=0.7)
  damped = _METRIC + 0.7 * np.eye(3)
  direction = np.linalg.solve(damped, _GRADIENT)
  scale = np.sqrt(0.02 / (direction @ damped @ direction))
  np.testing.assert_allclose(_vector(params), scale * direction, rtol=1e-6)


def test_the_curvature_may_be_given(x64):
  """Given the true product, the same step; given another, its own."""

  def product(matrix):
    def curvature(v):
      out = jnp.asarray(matrix) @ _vector(v)
      return {'a': out[:2], 'b': out[2]}

    return curvature

  default, _ = _step()
  same, _ = _step(curvature_fn=product(_METRIC))
  other, _ = _step(curvature_fn=product(4 * np.eye(3)))
  np.testing.assert_allclose(_vector(same), _vector(default), rtol=1e-9)
  unit = _GRADIENT / np.linalg.norm(_GRADIENT)
  np.testing.assert_allclose(
    _vector(other), np.sqrt(0.02 / 4) * unit, rtol=1e-5
  )


@pytest.mark.parametrize('damping', [1e-5, 0.7])
def test_the_last_product_may_be_given(x64, damping):
  """The true v'Hv gives the same step; four times it, one of half the length.

  For a single iteration: x is then g'g / g'Ag g.
  """

  def quadratic(scale):
    return lambda v: (
      scale * 2 * _quadratic(v)
      + (scale - 1) * damping * (jnp.sum(_vector(v) ** 2))
    )

  settings = {'cg_iterations': 1, 'damping': damping}
  default, _ = _step(**settings)
  same, _ = _step(quadratic_fn=quadratic(1), **settings)
  half, _ = _step(quadratic_fn=quadratic(4), **settings)
  np.testing.assert_allclose(_vector(same), _vector(default), rtol=1e-9)
  np.testing.assert_allclose(_vector(half), _vector(default) / 2, rtol=1e-5)


@pytest.mark.parametrize('backtracks', [0, 1, 5, 14])
def test_backtracks_until_the_step_is_allowed(x64, backtracks):
  """The kl turns infinite beyond the length of that step."""
  full, _ = _step()
  limit = 0.8 ** (backtracks - 0.5) * np.linalg.norm(_vector(full))

  def kl(params):
    d = jax.lax.stop_gradient(_vector(params))
    return _quadratic(params) + jnp.where(jnp.sum(d**2) > limit**2, jnp.inf, 0)

  params, info = _step(kl_fn=kl)
  assert info.accepted
  assert info.backtracks == backtracks
  np.testing.assert_allclose(
    _vector(params), 0.8**backtracks * _vector(full), rtol=1e-6
  )


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('which', ['surrogate', 'kl'])
def test_non_finite_lengths_are_passed_over(x64, which, bad):
  full, _ = _step()
  limit = 0.7 * np.linalg.norm(_vector(full))

  def spoil(fn):
    def spoiled(params):
      d = jax.lax.stop_gradient(_vector(params))
      return fn(params) + jnp.where(jnp.sum(d**2) > limit**2, bad, 0)

    return spoiled

  surrogate = spoil(_linear) if which == 'surrogate' else _linear
  kl = spoil(_quadratic) if which == 'kl' else _quadratic
  params, info = _step(surrogate, kl)
  assert info.backtracks == 2  # 0.8^2 is the first below 0.7
  np.testing.assert_allclose(_vector(params), 0.64 * _vector(full), rtol=1e-6)


def _uphill_only_at_the_start(params: types.Params) -> jax.Array:
  d = _vector(params)
  return _linear(params) - 1e9 * jnp.sum(d**2)


def _flat(params: types.Params) -> jax.Array:
  return 0.0 * jnp.sum(_vector(params))


def _nan_gradient(params: types.Params) -> jax.Array:
  return jnp.sum(jnp.sqrt(_vector(params) - 1.0))


@pytest.mark.parametrize(
  ('surrogate', 'kl'),
  [
    (_uphill_only_at_the_start, _quadratic),
    (_flat, _quadratic),
    (_nan_gradient, _quadratic),
    (_linear, lambda params: _quadratic(params) + 1.0),
    (_linear, lambda params: jnp.nan * _quadratic(params)),
  ],
  ids=['no gain', 'no gradient', 'nan gradient', 'too far', 'nan kl'],
)
def test_rejected_step_changes_nothing(surrogate, kl):
  start = {'a': jnp.array([0.1, -0.2]), 'b': jnp.array(0.3)}
  if surrogate is _uphill_only_at_the_start:
    start = _start()
  params, info = _step(surrogate, kl, start)
  assert not info.accepted
  assert info.surrogate_gain == 0
  assert info.kl == 0
  assert jax.tree.all(jax.tree.map(jnp.array_equal, params, start))


def test_gives_up_after_max_backtracks(x64):
  full, _ = _step()
  limit = 0.5 * np.linalg.norm(_vector(full))

  def kl(params):
    d = jax.lax.stop_gradient(_vector(params))
    return _quadratic(params) + jnp.where(jnp.sum(d**2) > limit**2, jnp.inf, 0)

  # 0.8^4 is the first below 0.5: the fifth length.
  assert not _step(kl_fn=kl, max_backtracks=4)[1].accepted
  _, info = _step(kl_fn=kl, max_backtracks=5)
  assert info.accepted
  assert info.non_finite_kl == 4
  assert _step(kl_fn=kl, max_backtracks=2, backtrack_ratio=0.4)[1].accepted


def test_numbers_may_be_traced():
  """So that a sweep over them is a vmap."""

  def step(max_kl, damping, ratio):
    params, _ = trpo.trpo_step(
      _start(),
      lambda params: (_linear(params), 0.999 * _quadratic(params)),
      max_kl=max_kl,
      cg_iterations=10,
      damping=damping,
      backtrack_ratio=ratio,
    )
    return jnp.linalg.norm(_vector(params))

  max_kl = jnp.array([0.01, 0.04])
  lengths = jax.jit(jax.vmap(step))(max_kl, jnp.zeros(2), jnp.full(2, 0.8))
  np.testing.assert_allclose(lengths[1] / lengths[0], 2.0, rtol=1e-5)
