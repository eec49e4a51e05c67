"""GSSM: the graph-structured surrogate model (Wang & van Hoof 2022, section 4).

Context points are the nodes of a fully connected graph. The weight of an edge
is a softmax of the cosine of the two points' features,

  s_ij = softmax_j beta <t(x_i), t(x_j)> / (|t(x_i)| |t(x_j)|),      (5)

over all points j of the context, including i itself. One layer passes messages,
with i's own message added once more as a self-loop,

  h_i = relu(W v_i + sum_j s_ij W v_j),   v_i = [t(x_i), e(x_i, y_i)].

A mean over the nodes gives the latent of the task. A mean weighted by the
similarity to a target gives the latent at this target:

  r_c = mean_i sum_j s_ij h_j,            q(z_c) = N(mu(r_c), Sigma(r_c))   (6)
  r_* = sum_i s(x_i, x_*) h_i,            q(z_*) = N(mu(r_*), Sigma(r_*))   (7)

with the same mu and Sigma, "a partially shared network" (appendix C). At beta =
0, r_c and r_* are both the mean of h, and z_* has the distribution of z_c.
"""

from typing import NamedTuple

import jax
from flax import linen as nn

from mbmpo_jax.models.neural_process import config
from mbmpo_jax.models.neural_process import parts
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.policies import distributions


class Memory(NamedTuple):
  """The graph after message passing."""

  keys: jax.Array  # [C, L], t(x_i) of length 1
  nodes: jax.Array  # [C, D], h_i
  mask: jax.Array  # [C]


class Graph(nn.Module):
  """The network of GSSM.

  Attributes:
    section: sizes and floors.
    output_size: O.
  """

  section: config.Surrogate
  output_size: int

  # Every target has its own z.
  per_target = True

  def setup(self) -> None:
    """Defines the layers."""
    section = self.section
    width = section.feature_size + section.encoder_sizes[-1]
    self.features = nn.Dense(section.feature_size, param_dtype=float)
    self.point = parts.PointEncoder(section.encoder_sizes)
    self.layer = nn.Dense(width, use_bias=False, param_dtype=float)
    self.head = parts.LatentHead(section.latent_size, section.min_latent_std)
    self.output = parts.OutputHead(
      section.decoder_sizes, self.output_size, section.min_std
    )

  def encode(self, context: sets.Points) -> parts.Encoding:
    """Equations 5 and 6; for an empty context r_c is 0."""
    x, y, mask = sets.live(context)
    features = self.features(x)
    keys = parts.unit(features)
    weight = parts.attention(keys, keys, mask, self.section.beta)
    message = self.layer(parts.join(features, self.point(x, y)))
    nodes = nn.relu(message + weight @ message)
    r_c = parts.pool(weight @ nodes, mask)
    return parts.Encoding(self.head(r_c), Memory(keys, nodes, mask))

  def latent(
    self, encoding: parts.Encoding, x: jax.Array
  ) -> distributions.Gaussian:
    """q(z_* | x_*, context) [T, Z] at targets `x` [T, I], equation 7."""
    keys, nodes, mask = encoding.memory
    query = parts.unit(self.features(x))
    weight = parts.attention(query, keys, mask, self.section.beta)
    return self.head(weight @ nodes)

  def posterior(
    self, encoding: parts.Encoding, context: sets.Points, targets: sets.Points
  ) -> distributions.Gaussian:
    """The same as `latent`: it does not depend on the targets' y."""
    del context
    return self.latent(encoding, targets.x)

  def decode(
    self, encoding: parts.Encoding, x: jax.Array, z: jax.Array
  ) -> distributions.Gaussian:
    """p(y | x, z) [..., T, O] at `x` [T, I] and `z` [..., T, Z]."""
    del encoding
    return self.output(parts.join(x, z))

  def __call__(
    self, context: sets.Points, targets: sets.Points
  ) -> distributions.Gaussian:
    """Calls all methods once, so that flax initialises all parameters."""
    encoding = self.encode(context)
    latent = self.posterior(encoding, context, targets)
    return self.decode(encoding, targets.x, latent.mean)
