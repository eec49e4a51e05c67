"""Networks that infer a latent of the task from a set of transitions."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax.models.neural_process import parts
from mbmpo_jax.objectives import pearl
from mbmpo_jax.policies import context as context_lib
from mbmpo_jax.policies import distributions


class WithLatent(nn.Module):
  """A network whose input includes z ~ q(z | transitions).

    r = mean_i e(x_i, y_i),   q(z) = N(mu(r), Sigma(r)),   head([s, z])

  The encoder is that of MLSM-v0.

  Attributes:
    head: the network on [s, z].
    encoder_sizes: units of the layers of e.
    latent_size: Z.
    min_latent_std: floor of the deviations.
  """

  head: nn.Module
  encoder_sizes: tuple[int, ...]
  latent_size: int
  min_latent_std: float

  def setup(self) -> None:
    """Defines the layers."""
    self.point = parts.PointEncoder(self.encoder_sizes)
    self.latent_head = parts.LatentHead(self.latent_size, self.min_latent_std)

  def latent(self, seen: context_lib.Seen) -> distributions.Gaussian:
    """q(z), [..., Z], of the transitions in memory; without any r is 0."""
    x, y, mask = seen.memory.points
    return self.latent_head(parts.pool(self.point(x, y), mask))

  def __call__(self, seen: context_lib.Seen) -> jax.Array:
    """The head's output for `seen` [...], with z from the memory's noise."""
    mean, log_std = self.latent(seen)
    z = mean + jnp.exp(log_std) * seen.memory.noise
    return self.head(jnp.concatenate([seen.obs, z], -1))

  def divergence(self, seen: context_lib.Seen) -> jax.Array:
    """KL of q(z) from the standard normal, [...], in nats."""
    return pearl.divergence(self.latent(seen))
