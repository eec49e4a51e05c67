"""A network that infers a latent task variable z from a set of transitions.

For a context c = {c_1, ..., c_C} of transitions c_n = (o, a, r, o') (Rakelly et
al. 2019, section 4.1),

  Psi(z | c_n) = N(mu_n, sigma_n^2),  q(z | c) prop. to p(z) prod_n Psi(z | c_n)

with the prior p(z) = N(0, I) and diagonal covariances. The product does not
depend on the order of the transitions.
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax import masking
from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import distributions

# Least variance of a factor; it bounds the precision, which sums over factors.
_LEAST_VARIANCE = 1e-6


class Encoder(nn.Module):
  """The encoder q(z | c) of contexts.

  Attributes:
    latent_size: Z, the size of the latent.
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
  """

  latent_size: int
  hidden_sizes: tuple[int, ...] = (200, 200, 200)
  activation: str = 'relu'

  @nn.compact
  def __call__(
    self, features: jax.Array, mask: jax.Array
  ) -> distributions.Gaussian:
    """q(z | c) `[..., Z]` for the transitions `features` [..., C, D].

    Transitions whose `mask` [..., C] is 0 are not part of the context. The
    variance of a factor is 1e-6 plus the softplus of a network output.
    """
    chex.assert_equal_shape([features[..., 0], mask])
    outputs = mlp.MLP(self.hidden_sizes, 2 * self.latent_size, self.activation)(
      masking.live(features, mask)
    )
    mean, raw = jnp.split(outputs, 2, -1)
    return posterior(mean, _LEAST_VARIANCE + nn.softplus(raw), mask)


def posterior(
  mean: jax.Array, variance: jax.Array, mask: jax.Array
) -> distributions.Gaussian:
  """The product of N(0, I) and the Gaussian factors of a context, `[..., Z]`.

    1 / sigma^2 = 1 + sum_n 1 / sigma_n^2,  mu = sigma^2 sum_n mu_n / sigma_n^2

  Without any factor it is the prior N(0, I).

  Args:
    mean: mu_n `[..., C, Z]`.
    variance: sigma_n^2 `[..., C, Z]`.
    mask: `[..., C]`, 1. for factors that are part of the context.

  Example:
    >>> one = jnp.ones((2, 1))
    >>> float(posterior(one, one, jnp.array([1.0, 0.0])).mean[0])
    0.5
  """
  chex.assert_equal_shape([mean, variance])
  chex.assert_equal_shape([mean[..., 0], mask])
  precision = 1 + jnp.sum(masking.live(1 / variance, mask), -2)
  weighted = jnp.sum(masking.live(mean / variance, mask), -2)
  return distributions.Gaussian(weighted / precision, -0.5 * jnp.log(precision))
