"""MLSM-v0 and MLSM-v1: neural processes (Galashov et al. 2019).

The latent z of the task is inferred from the mean of the encoded context points
(Garnelo et al. 2018),

  r_c = mean_i e(x_i, y_i),    q(z_c) = N(mu(r_c), Sigma(r_c)).

In training, where targets are known, z is inferred from context and targets
together. The attentive model (Kim et al. 2019) has a second, deterministic
path,

  r_* = sum_i softmax_i(<t(x_*), t(x_i)> / sqrt(L)) e'(x_i, y_i),

with a separate encoder e' and learned features t. Its decoder reads x_*, z and
r_*.
"""

import math
from typing import NamedTuple

import jax
from flax import linen as nn

from mbmpo_jax.models.neural_process import config
from mbmpo_jax.models.neural_process import parts
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.policies import distributions


class Memory(NamedTuple):
  """Keys and values of the deterministic path's attention."""

  keys: jax.Array  # [C, L]
  values: jax.Array  # [C, Z]
  mask: jax.Array  # [C]


class Pooled(nn.Module):
  """The network of MLSM-v0, and with `attentive` of MLSM-v1.

  Attributes:
    section: sizes and floors.
    output_size: O.
    attentive: whether there is a deterministic path.
  """

  section: config.Surrogate
  output_size: int
  attentive: bool = False

  per_target = False

  def setup(self) -> None:
    """Defines the layers."""
    section = self.section
    self.point = parts.PointEncoder(section.encoder_sizes)
    self.head = parts.LatentHead(section.latent_size, section.min_latent_std)
    self.output = parts.OutputHead(
      section.decoder_sizes, self.output_size, section.min_std
    )
    if self.attentive:
      self.features = nn.Dense(section.feature_size, param_dtype=float)
      self.local_point = parts.PointEncoder(section.encoder_sizes)
      self.local_value = nn.Dense(section.latent_size, param_dtype=float)

  def encode(self, context: sets.Points) -> parts.Encoding:
    """q(z_c); for an empty context r_c is 0."""
    x, y, mask = sets.live(context)
    latent = self.head(parts.pool(self.point(x, y), mask))
    if not self.attentive:
      return parts.Encoding(latent, ())
    values = self.local_value(self.local_point(x, y))
    return parts.Encoding(latent, Memory(self.features(x), values, mask))

  def latent(
    self, encoding: parts.Encoding, x: jax.Array
  ) -> distributions.Gaussian:
    """q(z_c) [1, Z], the same for all targets `x` [T, I]."""
    del x
    mean, log_std = encoding.latent
    return distributions.Gaussian(mean[None], log_std[None])

  def posterior(
    self, encoding: parts.Encoding, context: sets.Points, targets: sets.Points
  ) -> distributions.Gaussian:
    """q(z) [1, Z] from context and targets together, including the y."""
    del encoding
    points = sets.union(context, targets)
    x, y, mask = sets.live(points)
    mean, log_std = self.head(parts.pool(self.point(x, y), mask))
    return distributions.Gaussian(mean[None], log_std[None])

  def decode(
    self, encoding: parts.Encoding, x: jax.Array, z: jax.Array
  ) -> distributions.Gaussian:
    """p(y | x, z) [..., T, O] at `x` [T, I] and `z` [..., T or 1, Z]."""
    if not self.attentive:
      return self.output(parts.join(x, z))
    keys, values, mask = encoding.memory
    sharpness = 1 / math.sqrt(self.section.feature_size)
    weight = parts.attention(self.features(x), keys, mask, sharpness)
    return self.output(parts.join(x, z, weight @ values))

  def __call__(
    self, context: sets.Points, targets: sets.Points
  ) -> distributions.Gaussian:
    """Calls all methods once, so that flax initialises all parameters."""
    encoding = self.encode(context)
    latent = self.posterior(encoding, context, targets)
    return self.decode(encoding, targets.x, latent.mean)
