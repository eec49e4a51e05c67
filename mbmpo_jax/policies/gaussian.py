"""A diagonal Gaussian policy whose mean is a tanh network.

pi_theta(a | s) = N(a; mu(s), diag(sigma^2)), with mu a multilayer perceptron
and a log sigma that does not depend on the state (Clavera et al. 2018, A.3).
Sums over action dimensions are taken; leading batch axes stay.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.optim.tanh_gaussian import network

_LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
  """A diagonal Gaussian over actions."""

  mean: jax.Array  # [..., A]
  log_std: jax.Array  # [..., A], of size 1 along the batch axes


def init(
  key: jax.Array,
  observation_size: int,
  action_size: int,
  *,
  hidden_sizes: tuple[int, ...],
  init_std: float = 1.0,
) -> types.Params:
  """Xavier-uniform weights, zero biases, every deviation `init_std`.

  Args:
    key: consumed.
    observation_size: O.
    action_size: A.
    hidden_sizes: units of each hidden layer.
    init_std: initial standard deviation.

  Returns:
    `{'layers': [{'w': [in, out], 'b': [out]}, ...], 'log_std': [A]}`.
  """
  sizes = (observation_size, *hidden_sizes, action_size)
  xavier = jax.nn.initializers.xavier_uniform()
  layers = [
    {'w': xavier(layer_key, (fan_in, fan_out)), 'b': jnp.zeros(fan_out)}
    for layer_key, fan_in, fan_out in zip(
      jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True
    )
  ]
  return {
    'layers': layers,
    'log_std': jnp.full(action_size, math.log(init_std), float),
  }


def apply(
  params: types.Params,
  obs: jax.Array,
  *,
  min_std: float = 1e-6,
  learn_std: bool = True,
) -> Gaussian:
  """The action distribution at `obs` [..., O].

  Args:
    params: as `init` returns them.
    obs: observations.
    min_std: floor of the standard deviation.
    learn_std: False keeps every derivative away from `log_std`.
  """
  mean = network.apply(params['layers'], obs)
  return head(mean, params['log_std'], min_std=min_std, learn_std=learn_std)


def head(
  mean: jax.Array,
  log_std: jax.Array,
  *,
  min_std: float = 1e-6,
  learn_std: bool = True,
) -> Gaussian:
  """The distribution from the network's output [..., A] and `log_std` [A]."""
  log_std = jnp.maximum(log_std, math.log(min_std))
  if not learn_std:
    log_std = jax.lax.stop_gradient(log_std)
  return Gaussian(mean, broadcasting.leading(log_std, mean.ndim))


def sample(dist: Gaussian, noise: jax.Array) -> jax.Array:
  """Actions mu + sigma * noise, from standard normal `noise` [..., A].

  The caller draws the noise, so that loops over time need not.

  Example:
    >>> policy = init(jax.random.PRNGKey(0), 17, 6, hidden_sizes=(32, 32))
    >>> dist = apply(policy, jnp.ones(17))
    >>> noise = jax.random.normal(jax.random.PRNGKey(1), (6,))
    >>> sample(dist, noise).shape
    (6,)
    >>> bool(jnp.all(sample(dist, 0 * noise) == dist.mean))
    True
  """
  return dist.mean + jnp.exp(dist.log_std) * noise


def act(dist: Gaussian, key: jax.Array | None = None) -> jax.Array:
  """Actions [..., A] in [-1, 1]; the mean ones without a key, else sampled."""
  action = dist.mean
  if key is not None:
    noise = jax.random.normal(key, action.shape, action.dtype)
    action = sample(dist, noise)
  return jnp.clip(action, -1.0, 1.0)


def log_prob(dist: Gaussian, action: jax.Array, *, axis: int = -1) -> jax.Array:
  """log pi(a | s) [...] of raw actions [..., A], or A along another axis."""
  return log_prob_of_noise(dist.log_std, noise_of(dist, action), axis=axis)


def noise_of(dist: Gaussian, action: jax.Array) -> jax.Array:
  """The noise [..., A] of which `sample` makes `action` [..., A]."""
  return (action - dist.mean) * jnp.exp(-dist.log_std)


def log_prob_of_noise(
  log_std: jax.Array, noise: jax.Array, *, axis: int = -1
) -> jax.Array:
  """log pi [...] of the action that `sample` makes of `noise` [..., A]."""
  constant = jnp.sum(log_std, axis) + 0.5 * _LOG_2PI * noise.shape[axis]
  constant = broadcasting.leading(constant, noise.ndim - 1)
  return -0.5 * jnp.sum(jnp.square(noise), axis) - constant


def kl(old: Gaussian, new: Gaussian, *, axis: int = -1) -> jax.Array:
  """KL(old || new) [...]; zero, with zero slope, where the two agree.

  Actions are along `axis`.
  """
  log_ratio = new.log_std - old.log_std
  shift = jnp.square((old.mean - new.mean) * jnp.exp(-new.log_std))
  per_dimension = log_ratio + 0.5 * (jnp.expm1(-2 * log_ratio) + shift)
  return jnp.sum(per_dimension, axis)


def entropy(dist: Gaussian) -> jax.Array:
  """The differential entropy of one policy, a scalar, in nats."""
  return jnp.sum(dist.log_std + 0.5 * (_LOG_2PI + 1))
