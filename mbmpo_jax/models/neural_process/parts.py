"""Shared parts of the three models: attention, pooling, heads, decoder."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax import broadcasting
from mbmpo_jax import masking
from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import distributions

# Features with a smaller squared length are not scaled to length 1.
_SHORTEST_SQUARED = 1e-20


class Encoding(NamedTuple):
  """The encoded context of a task."""

  latent: distributions.Gaussian  # q(z_c), [Z]
  memory: Any  # context features to compare targets with; () for none


def attention(
  query: jax.Array, keys: jax.Array, mask: jax.Array, sharpness: float
) -> jax.Array:
  """The attention weights [T, C] of T targets on C context points.

    w_tc = exp(sharpness <query_t, key_c>) / sum_c' exp(...)

  The sum is over live points. All weights are 0 if there are none.

  Args:
    query: `[T, L]`.
    keys: `[C, L]`, finite in masked rows too.
    mask: `[C]`.
    sharpness: beta; at 0 all live points have the same weight.
  """
  chex.assert_rank([query, keys, mask], [2, 2, 1])
  chex.assert_equal_shape_prefix([keys, mask], 1)
  alive = mask[None] > 0
  scores = jnp.where(alive, sharpness * (query @ keys.T), -jnp.inf)
  largest = jnp.max(scores, -1, keepdims=True)
  largest = jax.lax.stop_gradient(jnp.where(largest > -jnp.inf, largest, 0.0))
  # Masked before the exponential too, so that no gradient is 0 * inf.
  weight = jnp.exp(jnp.where(alive, scores - largest, 0.0))
  weight = jnp.where(alive, weight, 0.0)
  total = jnp.sum(weight, -1, keepdims=True)
  return weight / jnp.where(total > 0, total, 1.0)


def unit(features: jax.Array) -> jax.Array:
  """Features [..., L] scaled to length 1, for cosines; 0 stays 0."""
  squared = jnp.sum(jnp.square(features), -1, keepdims=True)
  return features * jax.lax.rsqrt(jnp.maximum(squared, _SHORTEST_SQUARED))


def pool(values: jax.Array, mask: jax.Array) -> jax.Array:
  """The mean [..., D] of `values` [..., C, D] over live points, or 0."""
  total = jnp.sum(masking.live(values, mask), -2)
  return total / jnp.maximum(jnp.sum(mask, -1), 1)[..., None]


class PointEncoder(nn.Module):
  """The encoder e(x, y) of a context point: layers with a ReLU each.

  Attributes:
    sizes: units of each layer.
  """

  sizes: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
    """Maps `x` [..., I] and `y` [..., O] to [..., sizes[-1]]."""
    joined = jnp.concatenate([x, y], -1)
    return nn.relu(mlp.MLP(self.sizes[:-1], self.sizes[-1])(joined))


class LatentHead(nn.Module):
  """q(z) from r: a linear mean, sigma = floor + (1 - floor) sigmoid(linear).

  Attributes:
    size: Z.
    min_std: the floor.
  """

  size: int
  min_std: float

  @nn.compact
  def __call__(self, r: jax.Array) -> distributions.Gaussian:
    """Maps `r` [..., D] to a Gaussian [..., Z]."""
    outputs = nn.Dense(2 * self.size, param_dtype=r.dtype)(r)
    mean, raw = jnp.split(outputs, 2, -1)
    std = self.min_std + (1 - self.min_std) * nn.sigmoid(raw)
    return distributions.Gaussian(mean, jnp.log(std))


class OutputHead(nn.Module):
  """p(y) from an MLP with two outputs: mean, sigma = floor + softplus.

  Attributes:
    hidden_sizes: units of each hidden layer, with ReLU.
    output_size: O.
    min_std: the floor.
  """

  hidden_sizes: tuple[int, ...]
  output_size: int
  min_std: float

  @nn.compact
  def __call__(self, inputs: jax.Array) -> distributions.Gaussian:
    """Maps `inputs` [..., D] to a Gaussian [..., O]."""
    outputs = mlp.MLP(self.hidden_sizes, 2 * self.output_size)(inputs)
    return gaussian(outputs, self.min_std)


def gaussian(outputs: jax.Array, min_std: float) -> distributions.Gaussian:
  """p(y) [..., O] from a mean and a raw deviation, `outputs` [..., 2 O]."""
  mean, raw = jnp.split(outputs, 2, -1)
  return distributions.Gaussian(mean, jnp.log(min_std + nn.softplus(raw)))


def join(x: jax.Array, *others: jax.Array) -> jax.Array:
  """Concatenates features with broadcast batch axes, as [T, I], [K, 1, Z]."""
  ndim = max(part.ndim for part in (x, *others))
  parts = [broadcasting.leading(part, ndim) for part in (x, *others)]
  shape = jnp.broadcast_shapes(*(part.shape[:-1] for part in parts))
  return jnp.concatenate(
    [jnp.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], -1
  )
