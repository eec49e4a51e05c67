"""Derivatives of a sum of f(log pi) by hand, against central differences.

Of the sum in float64 NumPy, and of its gradient by hand there.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.policies import gaussian
from mbmpo_jax.optim.tanh_gaussian import log_prob_sum

_STEPS, _ACTIONS = 7, 3
_EPS = 1e-5

# f at every step, in NumPy and in JAX; whether it is linear.
_FUNCTIONS = {
  'weighted': (lambda np_, w, lp: w * lp, True),
  'ratio': (lambda np_, w, lp: w * np_.exp(lp + 3), False),
}


def _draw():
  rng = np.random.default_rng(0)
  mean, action, along = rng.normal(size=(3, _ACTIONS, _STEPS))
  log_std, log_std_along = 0.3 * rng.normal(size=(2, _ACTIONS, 1))
  return mean, log_std, action, along, log_std_along, rng.normal(size=_STEPS)


def _total(f, weight, mean, log_std, action):
  """The sum in NumPy."""
  noise = (action - mean) / np.exp(log_std)
  log_prob = np.sum(-0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi), axis=0)
  return np.sum(f(np, weight, log_prob))


def _by_hand(f, linear, weight, mean, log_std, action):
  dist = gaussian.Gaussian(jnp.asarray(mean), jnp.asarray(log_std))
  gain = log_prob_sum.at(
    lambda log_prob: jnp.sum(f(jnp, weight, log_prob)),
    dist,
    jnp.asarray(action),
    linear=linear,
  )
  return dist, gain, log_prob_sum.gradient(gain, dist)


@pytest.mark.parametrize('name', _FUNCTIONS)
def test_gradient_is_the_slope_of_the_sum(x64, name):
  f, linear = _FUNCTIONS[name]
  mean, log_std, action, along, log_std_along, weight = _draw()
  _, _, gradient = _by_hand(f, linear, weight, mean, log_std, action)
  ahead, behind = (
    _total(f, weight, mean + e * along, log_std + e * log_std_along, action)
    for e in (_EPS, -_EPS)
  )
  slope = np.sum(gradient.mean * along) + np.sum(
    gradient.log_std * log_std_along
  )
  np.testing.assert_allclose(slope, (ahead - behind) / (2 * _EPS), rtol=1e-7)


@pytest.mark.parametrize('name', _FUNCTIONS)
def test_change_is_the_slope_of_the_gradient(x64, name):
  f, linear = _FUNCTIONS[name]
  mean, log_std, action, along, log_std_along, weight = _draw()
  dist, gain, _ = _by_hand(f, linear, weight, mean, log_std, action)
  change = log_prob_sum.gradient_change(
    gain,
    dist,
    gaussian.Gaussian(jnp.asarray(along), jnp.asarray(log_std_along)),
  )
  (_, _, ahead), (_, _, behind) = (
    _by_hand(
      f,
      linear,
      weight,
      mean + e * along,
      log_std + e * log_std_along,
      action,
    )
    for e in (_EPS, -_EPS)
  )
  for by_hand, a, b in zip(change, ahead, behind, strict=True):
    expected = (a - b) / (2 * _EPS)
    np.testing.assert_allclose(by_hand, expected, rtol=1e-6, atol=1e-8)


def test_what_is_linear_has_no_curvature(x64):
  f, _ = _FUNCTIONS['weighted']
  mean, log_std, action, *_, weight = _draw()
  _, unknown, _ = _by_hand(f, False, weight, mean, log_std, action)
  _, known, _ = _by_hand(f, True, weight, mean, log_std, action)
  assert known.curvature is None
  np.testing.assert_array_equal(unknown.curvature, 0.0)
  np.testing.assert_array_equal(unknown.slope, known.slope)
