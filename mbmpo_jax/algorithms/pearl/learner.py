"""The networks of PEARL, and one gradient update."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms.sac import learner as sac
from mbmpo_jax.networks import context as networks_lib
from mbmpo_jax.objectives import pearl
from mbmpo_jax.policies import inferring
from mbmpo_jax.policies import latent


class Networks(NamedTuple):
  """The encoder, and policy and critics with the input [s, z]."""

  encoder: networks_lib.Encoder
  sac: sac.Networks


class Learner(NamedTuple):
  """The learned state."""

  sac: sac.Learner
  encoder: types.Params
  optimizer: Any  # the state of the encoder's optimiser


METRICS = {
  **sac.METRICS,
  'encoder/kl': base.Metric(
    "KL divergence of the latent variable's posterior from N(0, I), mean over"
    ' updates, in nats',
    label='KL of z',
  ),
  'encoder/std': base.Metric(
    "standard deviation of the latent variable's posterior, mean over"
    ' dimensions and updates; 1 for an empty context'
  ),
}


def init(
  networks: Networks,
  key: jax.Array,
  hyper: base.Hyper,
  *,
  observation_size: int,
) -> Learner:
  """New networks; consumes the key."""
  sac_key, encoder_key = jax.random.split(key)
  encoder = inferring.init_encoder(
    networks.encoder, encoder_key, observation_size, networks.sac.action_size
  )
  return Learner(
    sac=sac.init(networks.sac, sac_key, hyper),
    encoder=encoder,
    optimizer=_optimizer(hyper).init(encoder),
  )


def update(
  learner: Learner,
  hyper: base.Hyper,
  batch: sac.Batch,
  key: jax.Array,
  *,
  networks: Networks,
  learn_temperature: bool,
) -> off_policy.Updated:
  """A step of SAC given z, and one of the encoder by the critics' loss.

  Both steps start from the networks before the update. s and s' get the same z,
  from the context before s (Rakelly et al. 2019, algorithm 1).

  Args:
    learner: the state before the update.
    hyper: discount, learning rates and weights.
    batch: of B transitions; `inputs` are a `history.Seen`, `next_inputs` the
      following observations.
    key: consumed.
    networks: all networks.
    learn_temperature: whether alpha is adapted.
  """
  noise_key, sac_key = jax.random.split(key)
  shape = (batch.reward.shape[0], networks.encoder.latent_size)
  noise = jax.random.normal(noise_key, shape, batch.reward.dtype)
  inferred, pull, posterior = jax.vjp(
    functools.partial(
      pearl.infer,
      encode=functools.partial(inferring.encode, networks.encoder),
      seen=batch.inputs,
      noise=noise,
    ),
    learner.encoder,
    has_aux=True,
  )
  # From here on z is a constant; only `pull` leads back to the encoder.
  obs, z = batch.inputs.obs, inferred.z
  (after, metrics, finite), slope = sac.update_and_slope(
    learner.sac,
    hyper,
    batch._replace(
      inputs=latent.append(obs, z),
      next_inputs=latent.append(batch.next_inputs, z),
    ),
    sac_key,
    networks=networks.sac,
    learn_temperature=learn_temperature,
  )
  weight = jnp.asarray(hyper['context.kl_weight'], inferred.kl.dtype)
  (gradient,) = pull(pearl.Inferred(slope[:, obs.shape[-1] :], weight))
  encoder, optimizer = off_policy.descend(
    _optimizer(hyper), gradient, learner.optimizer, learner.encoder
  )
  return off_policy.Updated(
    Learner(after, encoder, optimizer),
    {
      **metrics,
      'encoder/kl': inferred.kl,
      'encoder/std': jnp.mean(jnp.exp(posterior.log_std)),
    },
    finite & masking.sums_finite(gradient),
  )


def _optimizer(hyper: base.Hyper) -> optax.GradientTransformation:
  return optax.adam(hyper['context.learning_rate'])
