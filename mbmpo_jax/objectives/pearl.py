"""PEARL: the loss of the latent task variable (Rakelly et al. 2019).

The encoder q_phi(z | c), with z = mu + sigma eps, minimises (section 4.1,
algorithm 1)

  J(phi) = J_Q(z) + beta E_c KL(q_phi(z | c) || N(0, I)),

where J_Q is the critics' loss; the critics see z beside the observation. The
targets in J_Q and the policy's loss send no gradient to phi.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import history

# (params, observations and contexts [B]) -> q(z|c) [B, Z].
EncodeFn: TypeAlias = Callable[
  [types.Params, history.Seen], distributions.Gaussian
]


class Inferred(NamedTuple):
  """Latents inferred from the contexts of a minibatch."""

  z: jax.Array  # [B, Z], sampled from q(z | c)
  kl: jax.Array  # [], mean divergence from N(0, I), in nats


def divergence(posterior: distributions.Gaussian) -> jax.Array:
  """KL(q(z | c) || N(0, I)), `[...]`: sum (mu^2 + sigma^2 - 1) / 2 - log sigma.

  Args:
    posterior: q(z | c), `[..., Z]`.
  """
  zeros = jnp.zeros_like(posterior.mean)
  return posterior.kl(distributions.Gaussian(zeros, zeros))


def infer(
  params: types.Params,
  encode: EncodeFn,
  seen: history.Seen,
  noise: jax.Array,
) -> tuple[Inferred, distributions.Gaussian]:
  """Samples z for each row, differentiable in `params`; also gives q(z | c).

  Args:
    params: phi.
    encode: the encoder.
    seen: observations and the contexts that precede them, `[B, ...]`.
    noise: eps, standard normal, `[B, Z]`.
  """
  found = encode(params, seen)
  chex.assert_equal_shape([found.mean, noise])
  kl = jnp.mean(divergence(found))
  return Inferred(found.sample(noise), kl), found
