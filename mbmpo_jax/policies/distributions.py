"""Distributions over actions, the densities of policies.

Each distribution is a named tuple of arrays `[..., A]` with the methods of
`Distribution`. The methods sum over action dimensions and keep batch axes. A
batch axis of size 1 is broadcast, as for a deviation that does not depend on
the state.

A raw action is the sampled action, to which log-probabilities refer. `to_env`
maps it to the action that the environment receives. The caller draws the noise,
so that it can be drawn outside of a loop over time.
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

_LOG_2PI = math.log(2 * math.pi)
# Nodes x and weights w of Gauss-Hermite quadrature: for standard normal n,
# E f(n) = sum w f(sqrt(2) x) / sqrt(pi).
_NODES, _WEIGHTS = np.polynomial.hermite.hermgauss(64)


class Distribution(Protocol):
  """The interface of distributions; shapes omit the batch axes `[...]`."""

  def sample(self, noise: Any) -> jax.Array:
    """A raw action [A], computed from `noise`."""
    ...

  def mode(self) -> jax.Array:
    """The raw action [A] of a greedy policy."""
    ...

  def to_env(self, raw: jax.Array) -> jax.Array:
    """The environment action [A] of a raw action [A]."""
    ...

  def log_prob(self, raw: jax.Array) -> jax.Array:
    """log pi [] of a raw action [A]."""
    ...

  def log_prob_of_noise(self, noise: Any) -> jax.Array:
    """log pi [] of the raw action that `sample` computes from `noise`."""
    ...

  def entropy(self) -> jax.Array:
    """The entropy [], in nats."""
    ...

  def kl(self, other: Any) -> jax.Array:
    """KL(self || other) [] in nats; both must be of the same class."""
    ...


class Gaussian(NamedTuple):
  """A diagonal Gaussian; `to_env` clips its actions to [-1, 1]."""

  mean: jax.Array  # [..., A]
  log_std: jax.Array  # [..., A], often of size 1 along the batch axes

  def sample(self, noise: jax.Array) -> jax.Array:
    """mu + sigma * noise, with standard normal `noise` [..., A].

    Example:
      >>> walk = Gaussian(mean=jnp.ones((4, 2)), log_std=jnp.zeros((1, 2)))
      >>> walk.sample(jnp.zeros((4, 2))).shape
      (4, 2)
    """
    return self.mean + jnp.exp(self.log_std) * noise

  def mode(self) -> jax.Array:
    """mu."""
    return self.mean

  def to_env(self, raw: jax.Array) -> jax.Array:
    """The action clipped to [-1, 1]."""
    return jnp.clip(raw, -1.0, 1.0)

  def noise_of(self, raw: jax.Array) -> jax.Array:
    """The noise [..., A] for which `sample` returns `raw` [..., A]."""
    return (raw - self.mean) * jnp.exp(-self.log_std)

  def log_prob(self, raw: jax.Array, *, axis: int = -1) -> jax.Array:
    """log N(raw; mu, sigma^2); actions are along `axis`."""
    return self.log_prob_of_noise(self.noise_of(raw), axis=axis)

  def log_prob_of_noise(self, noise: jax.Array, *, axis: int = -1) -> jax.Array:
    """-||noise||^2 / 2 - sum log sigma - A log(2 pi) / 2."""
    constant = jnp.sum(self.log_std, axis) + 0.5 * _LOG_2PI * noise.shape[axis]
    return -0.5 * jnp.sum(jnp.square(noise), axis) - constant

  def entropy(self, *, axis: int = -1) -> jax.Array:
    """sum log sigma + A (log(2 pi) + 1) / 2."""
    return jnp.sum(self.log_std + 0.5 * (_LOG_2PI + 1), axis)

  def kl(self, other: 'Gaussian', *, axis: int = -1) -> jax.Array:
    """KL(self || other); zero with zero gradient where the two are equal."""
    log_ratio = other.log_std - self.log_std
    shift = jnp.square((self.mean - other.mean) * jnp.exp(-other.log_std))
    per_dimension = log_ratio + 0.5 * (jnp.expm1(-2 * log_ratio) + shift)
    return jnp.sum(per_dimension, axis)


class TanhGaussian(NamedTuple):
  """The tanh of a diagonal Gaussian; raw actions are those before the tanh.

  Log-probabilities are those of the squashed action, as SAC needs them:
  log pi = log N(raw; mu, sigma^2) - sum log(1 - tanh(raw)^2).
  """

  mean: jax.Array  # [..., A], before the tanh
  log_std: jax.Array  # [..., A]

  def sample(self, noise: jax.Array) -> jax.Array:
    """mu + sigma * noise, before the tanh."""
    return self._gaussian.sample(noise)

  def mode(self) -> jax.Array:
    """mu; its tanh is the median of the squashed actions."""
    return self.mean

  def to_env(self, raw: jax.Array) -> jax.Array:
    """tanh(raw)."""
    return jnp.tanh(raw)

  def log_prob(self, raw: jax.Array) -> jax.Array:
    """The log-probability of tanh(raw)."""
    return self._gaussian.log_prob(raw) - _log_slope(raw)

  def log_prob_of_noise(self, noise: jax.Array) -> jax.Array:
    """The log-probability of tanh(mu + sigma * noise)."""
    log_prob = self._gaussian.log_prob_of_noise(noise)
    return log_prob - _log_slope(self.sample(noise))

  def entropy(self) -> jax.Array:
    """H(N) + E sum log(1 - tanh^2), E by Gauss-Hermite quadrature."""
    nodes, weights = (
      jnp.reshape(
        jnp.asarray(x, self.mean.dtype), (1,) * self.mean.ndim + (-1,)
      )
      for x in (math.sqrt(2) * _NODES, _WEIGHTS / math.sqrt(math.pi))
    )
    raw = self.mean[..., None] + jnp.exp(self.log_std)[..., None] * nodes
    slope = jnp.sum(_log_tanh_slope(raw) * weights, -1)
    return self._gaussian.entropy() + jnp.sum(slope, -1)

  def kl(self, other: 'TanhGaussian') -> jax.Array:
    """The KL of the Gaussians, because tanh is one to one."""
    return self._gaussian.kl(other._gaussian)

  @property
  def _gaussian(self) -> Gaussian:
    return Gaussian(self.mean, self.log_std)


class Categorical(NamedTuple):
  """One of A discrete actions, represented by its one-hot vector."""

  logits: jax.Array  # [..., A]

  def sample(self, noise: jax.Array) -> jax.Array:
    """One-hot of argmax(logits + noise), with Gumbel `noise` [..., A]."""
    return _one_hot_argmax(self.logits + noise)

  def mode(self) -> jax.Array:
    """One-hot of the most probable action."""
    return _one_hot_argmax(self.logits)

  def to_env(self, raw: jax.Array) -> jax.Array:
    """`raw`, unchanged."""
    return raw

  def log_prob(self, raw: jax.Array) -> jax.Array:
    """The log-probability of the action with the one-hot vector `raw`."""
    return jnp.sum(raw * jax.nn.log_softmax(self.logits), -1)

  def log_prob_of_noise(self, noise: jax.Array) -> jax.Array:
    """The log-probability of the action that `sample` gives for `noise`."""
    return self.log_prob(self.sample(noise))

  def entropy(self) -> jax.Array:
    """-sum p log p."""
    log_p = jax.nn.log_softmax(self.logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, -1)

  def kl(self, other: 'Categorical') -> jax.Array:
    """sum p (log p - log q)."""
    log_p = jax.nn.log_softmax(self.logits)
    log_q = jax.nn.log_softmax(other.logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


class Deterministic(NamedTuple):
  """A single action, without a density."""

  action: jax.Array  # [..., A], clipped to [-1, 1] for the environment

  def sample(self, noise: Any) -> jax.Array:
    """The action; `noise` is ignored."""
    del noise
    return self.action

  def mode(self) -> jax.Array:
    """The action."""
    return self.action

  def to_env(self, raw: jax.Array) -> jax.Array:
    """The action clipped to [-1, 1]."""
    return jnp.clip(raw, -1.0, 1.0)

  def log_prob(self, raw: jax.Array) -> jax.Array:
    """NaN, as there is no density."""
    return jnp.full(raw.shape[:-1], jnp.nan, raw.dtype)

  def log_prob_of_noise(self, noise: Any) -> jax.Array:
    """NaN, as there is no density."""
    del noise
    return self.log_prob(self.action)

  def entropy(self) -> jax.Array:
    """NaN, as there is no density."""
    return self.log_prob(self.action)

  def kl(self, other: 'Deterministic') -> jax.Array:
    """NaN, as there is no density."""
    del other
    return self.log_prob(self.action)


def normal_noise(
  key: jax.Array, shape: tuple[int, ...], action_size: int
) -> jax.Array:
  """Standard normal noise `[*shape, A]`; consumes `key`."""
  # Drawn as one axis, because XLA vectorises along the last axis; the numbers
  # are the same.
  flat = jax.random.normal(key, (math.prod(shape) * action_size,), float)
  return flat.reshape(*shape, action_size)


def gumbel_noise(
  key: jax.Array, shape: tuple[int, ...], action_size: int
) -> jax.Array:
  """Standard Gumbel noise `[*shape, A]`; consumes `key`."""
  return jax.random.gumbel(key, (*shape, action_size), float)


def _one_hot_argmax(x: jax.Array) -> jax.Array:
  return jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1], dtype=x.dtype)


def _log_slope(raw: jax.Array) -> jax.Array:
  """sum log(1 - tanh(raw)^2)."""
  return jnp.sum(_log_tanh_slope(raw), -1)


def _log_tanh_slope(x: jax.Array) -> jax.Array:
  """log(1 - tanh(x)^2), accurate even where the slope is tiny."""
  # Not with `softplus`: XLA's CPU compiler does not vectorise log1p.
  size = jnp.abs(x)
  return 2 * (math.log(2) - size - jnp.log(1 + jnp.exp(-2 * size)))
