"""The layout of policy steps, against the ordinary one."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import mlp
from mbmpo_jax.policies import samples_last

_BATCH, _SIZES = (3, 4), (5, 6, 6, 2)


def _draw(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _layers(seed: int) -> mlp.Layers:
  flat, unravel = jax.flatten_util.ravel_pytree(
    jax.tree.map(
      lambda x: x.astype(float), mlp.init(jax.random.PRNGKey(0), _SIZES)
    )
  )
  return unravel(0.5 * _draw(seed, flat.size))


def _first(layers: mlp.Layers, x: jax.Array) -> jax.Array:
  return mlp.apply(layers, x.T).T


def _assert_close(actual, expected) -> None:
  leaves = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
  for a, b in leaves:
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


# In the network's weights and its inputs.
_DERIVATIVES = {
  'value': lambda fn, x, v: fn(x),
  'forward': lambda fn, x, v: jax.jvp(fn, (x,), (v,))[1],
  'reverse': lambda fn, x, v: jax.grad(fn)(x),
  'forward over reverse': lambda fn, x, v: jax.jvp(jax.grad(fn), (x,), (v,))[1],
  'reverse over forward': lambda fn, x, v: jax.grad(
    lambda x: jax.jvp(fn, (x,), (v,))[1]
  )(x),
  'reverse over reverse': lambda fn, x, v: jax.grad(
    lambda x: sum(map(jnp.sum, jax.tree.leaves(jax.grad(fn)(x))))
  )(x),
  'linearised gradient': lambda fn, x, v: jax.linearize(jax.grad(fn), x)[1](v),
}


@pytest.mark.parametrize('name', _DERIVATIVES)
@pytest.mark.parametrize('mapped', [False, True])
def test_derivatives_of_the_network(x64, name, mapped):
  """And under `jax.vmap`."""
  derivative = _DERIVATIVES[name]
  x = _layers(1), _draw(2, 5, 7)
  v = _layers(3), _draw(4, 5, 7)

  def evaluate(apply, x, v):
    def fn(x):
      return jnp.sum(jnp.cos(apply(*x)))

    if mapped:
      both = jax.tree.map(lambda *leaves: jnp.stack(leaves), x, v)
      return jax.vmap(lambda x: derivative(fn, x, v))(both)
    return derivative(fn, x, v)

  compiled = jax.jit(evaluate, static_argnums=0)
  _assert_close(compiled(samples_last.apply, x, v), compiled(_first, x, v))


def test_a_linearisation_keeps_one_array_per_layer(x64):
  """Beside the inputs: the activations, not their slopes besides."""
  layers, x = _layers(1), _draw(2, 5, 7)
  _, derivative = jax.linearize(lambda p: samples_last.apply(p, x), layers)
  kept = [leaf.shape for leaf in jax.tree.leaves(derivative)]
  assert kept.count((6, 7)) == 2


@pytest.mark.parametrize('size', [12, 1])
def test_distribution(x64, size):
  """Of a batch [T, N]; deviations of every step, or one for all."""
  mean, other = _draw(1, 2, 12), _draw(2, 2, 12)
  log_std, other_log_std = _draw(3, 2, size), _draw(4, 2, size)
  action = _draw(5, *_BATCH, 2)

  def ordinary(mean, log_std):
    batch = _BATCH if size > 1 else (1, 1)
    return distributions.Gaussian(
      mean.T.reshape(*_BATCH, 2), log_std.T.reshape(*batch, 2)
    )

  def last(mean, log_std):
    return samples_last.Gaussian(mean, log_std, _BATCH)

  def describe(make):
    dist = make(mean, log_std)
    return (
      dist.sample(action),
      dist.mode(),
      dist.to_env(action),
      dist.log_prob(action),
      dist.log_prob_of_noise(action),
      dist.entropy(),
      dist.kl(make(other, other_log_std)),
    )

  expected, actual = jax.jit(lambda: (describe(ordinary), describe(last)))()
  assert [x.shape for x in actual] == [x.shape for x in expected]
  _assert_close(actual, expected)
