"""Models that are made worse on purpose: predictions get bias and noise.

In the study of section 6.4 (Clavera et al. 2018, figure 4), member k of the
ensemble predicts

  s' + b_k + sigma e,  b_k ~ U(0, b_max) in every fit,  e ~ N(0, I) at every
                       step,

where s' is its learned prediction, and the scalar b_k is added to all
dimensions. The sum is not clipped; the next step's learned prediction is.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.models import base
from mbmpo_jax.models import statistics as statistics_lib


class Model(NamedTuple):
  """A model and its bias; for all members, with a leading axis K."""

  inner: Any
  bias: jax.Array  # [], b_k

  @property
  def low(self) -> jax.Array:
    """The least values [O] of the learned prediction."""
    return self.inner.low

  @property
  def high(self) -> jax.Array:
    """The greatest values [O] of the learned prediction."""
    return self.inner.high


def make(
  dynamics: base.Dynamics,
  *,
  num_models: int,
  bias_max: float,
  noise_std: float,
) -> base.Dynamics:
  """The dynamics with biased and noisy predictions; learning is unchanged.

  Args:
    dynamics: the model's functions. Predicted rewards and terminations are not
      changed.
    num_models: K.
    bias_max: b_max. Before the first fit the bias is 0.
    noise_std: sigma.

  Returns:
    Dynamics whose `predict` consumes its key; `dynamics` itself if both numbers
    are 0.
  """
  if not bias_max and not noise_std:
    return dynamics

  def ready(
    params: types.Params, statistics: statistics_lib.Statistics
  ) -> Model:
    return Model(dynamics.ready(params, statistics), jnp.zeros(num_models))

  def perturb(model: Model, key: jax.Array) -> Model:
    inner, inner_perturb = model.inner, dynamics.perturb
    if inner_perturb is not None:
      key, inner_key = jax.random.split(key)
      inner = inner_perturb(inner, inner_key)
    return Model(inner, draw_bias(key, num_models, bias_max))

  def start(model: Model, key: jax.Array, context: Any, num: int) -> Any:
    return dynamics.start(model.inner, key, context, num)

  def predict(
    model: Model, carry: Any, obs: jax.Array, env_action: jax.Array, key: Any
  ) -> tuple[Any, base.Prediction]:
    chex.assert_rank([model.bias, obs], [0, 2])
    inner_key, noise_key = jax.random.split(key)
    carry, predicted = dynamics.predict(
      model.inner, carry, obs, env_action, inner_key
    )
    noise = noise_std * jax.random.normal(noise_key, obs.shape, obs.dtype)
    next_obs = predicted.next_obs + (model.bias + noise)
    return carry, predicted._replace(next_obs=next_obs)

  return dynamics._replace(
    ready=ready, perturb=perturb, start=start, predict=predict
  )


def draw_bias(key: jax.Array, num_models: int, bias_max: float) -> jax.Array:
  """Samples b_k ~ U(0, b_max) for every member, [K]; consumes the key."""
  return jax.random.uniform(key, (num_models,), maxval=bias_max)
