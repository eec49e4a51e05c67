"""PEARL: what the latent of a task is learned by (Rakelly et al. 2019).

Of the encoder q_phi(z | c), with z = mu + sigma eps (section 4.1, algorithm 1),

  J(phi) = J_Q(z) + beta E_c KL(q_phi(z | c) || N(0, I))

where J_Q is the critics' loss, which sees z beside the observation. Neither the
targets in it nor the policy's loss send a gradient to phi.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import history

# (params, what was seen [B]) -> q(z|c) [B, Z].
EncodeFn: TypeAlias = Callable[
  [types.Params, history.Seen], distributions.Gaussian
]


class Inferred(NamedTuple):
  """Of the contexts of a minibatch."""

  z: jax.Array  # [B, Z], drawn
  kl: jax.Array  # [], mean divergence from N(0, I), in nats


def divergence(posterior: distributions.Gaussian) -> jax.Array:
  """KL(q(z | c) || N(0, I)), `[...]`."""
  zeros = jnp.zeros_like(posterior.mean)
  return posterior.kl(distributions.Gaussian(zeros, zeros))


def infer(
  params: types.Params,
  encode: EncodeFn,
  seen: history.Seen,
  noise: jax.Array,
) -> tuple[Inferred, distributions.Gaussian]:
  """z of each row, differentiable in `params`; and q(z | c).

  Args:
    params: phi.
    encode: the encoder.
    seen: observations and the contexts before them `[B]`.
    noise: eps `[B, Z]`.
  """
  found = encode(params, seen)
  chex.assert_equal_shape([found.mean, noise])
  kl = jnp.mean(divergence(found))
  return Inferred(found.sample(noise), kl), found
