"""Deterministic dynamics models: weight-normalised MLPs, member axis first.

Member k predicts the change of the observation (Clavera et al. 2018, eq. 2),

  f_k(s, a) = s + mu_d + sigma_d * net_k(([m(s), a] - mu_x) / sigma_x),

where `m` is the environment's `model_input`, and mu and sigma are moments of
the buffer. Every layer is weight-normalised, w = g v / ||v|| per output unit
(Salimans & Kingma 2016). The activation is `model.activation`, by default ReLU
as in the paper.

With `model.predict_reward` the network has an additional output, the
standardised reward. With `model.predict_done` it has another one, the log-odds
of a termination, fitted by cross-entropy. A termination is predicted where the
log-odds are above 0.

Fitting uses `Params` (v, g, b). Imagination uses a `Model`, into which norms
and scales have been folded once. `make` returns all functions as a `Dynamics`,
for one environment and one configuration.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.envs import base as env_base
from mbmpo_jax.models import base
from mbmpo_jax.models import biased
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import projected
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.networks import mlp

_Carry = TypeVar('_Carry')


class Model(NamedTuple):
  """One member's model for `predict`; for all members, a leading axis K."""

  layers: tuple[tuple[jax.Array, jax.Array], ...]  # ([in, out], [out]) each
  input_mean: jax.Array  # [I], subtracted first: |mean| may exceed std
  low: jax.Array  # [O], lower bound of predictions
  high: jax.Array  # [O], upper bound of predictions
  reward_low: Any = ()  # [1], lower bound of rewards, if they are predicted
  reward_high: Any = ()  # [1], upper bound of rewards


def make(
  env: env_base.Environment, section: config_lib.Ensemble
) -> base.Dynamics:
  """The ensemble for an environment; deterministic, with the carry `()`.

  Args:
    env: gives sizes and `model_input`.
    section: number and sizes of the members, activation, precision of matrix
      products, predicted quantities, and bias and noise (`models/biased.py`).
  """
  heads: Any = dict(
    predict_reward=section.predict_reward, predict_done=section.predict_done
  )
  network: Any = dict(
    activation=section.activation, precision=section.precision
  )

  def init_members(key: jax.Array) -> types.Params:
    return init(
      key,
      statistics_lib.input_size(env),
      env.observation_size + sum(heads.values()),
      hidden_sizes=section.hidden_sizes,
      num_models=section.num_models,
    )

  def start(
    model: Model, key: jax.Array, context: object, num: int
  ) -> tuple[()]:
    del model, key, context, num
    return ()

  learned = base.Dynamics(
    init=init_members,
    ready=functools.partial(fold, **heads),
    start=start,
    predict=functools.partial(
      predict,
      model_input=env.model_input,
      **network,
      **heads,
    ),
    loss=functools.partial(
      loss,
      predict_done=section.predict_done,
      **network,
    ),
  )
  spoilt = biased.make(
    learned,
    num_models=section.num_models,
    bias_max=section.bias_max,
    noise_std=section.noise_std,
  )
  return projected.make(spoilt, env)


def init(
  key: jax.Array,
  input_size: int,
  output_size: int,
  *,
  hidden_sizes: tuple[int, ...],
  num_models: int,
) -> types.Params:
  """Parameters of `num_models` independent members; consumes `key`.

  Directions v are Xavier-uniform, lengths g one, biases zero.

  Returns:
    A tuple of layers `{'v': [K, in, out], 'g': [K, out], 'b': [K, out]}`.
  """
  sizes = (input_size, *hidden_sizes, output_size)
  xavier = jax.nn.initializers.xavier_uniform()

  def init_layer(key: jax.Array, fan_in: int, fan_out: int) -> types.Params:
    draw = jax.vmap(lambda key: xavier(key, (fan_in, fan_out)))
    return {
      'v': draw(jax.random.split(key, num_models)),
      'g': jnp.ones((num_models, fan_out)),
      'b': jnp.zeros((num_models, fan_out)),
    }

  keys = jax.random.split(key, len(sizes) - 1)
  return tuple(map(init_layer, keys, sizes[:-1], sizes[1:]))


def plain_layers(
  params: types.Params,
) -> tuple[tuple[jax.Array, jax.Array], ...]:
  """The plain weights and biases (w, b) of weight-normalised layers."""
  return tuple(
    (
      layer['v']
      * (layer['g'] / jnp.linalg.norm(layer['v'], axis=-2))[..., None, :],
      layer['b'],
    )
    for layer in params
  )


def forward(
  layers: tuple[tuple[jax.Array, jax.Array], ...],
  inputs: jax.Array,
  *,
  activation: str = 'relu',
  precision: str = 'highest',
) -> jax.Array:
  """The network's output [K, B, out] for `inputs` [K, B, in].

  Either both arguments have the member axis, or neither has it. With the axis,
  each layer is one batched matrix product.
  """
  hidden = inputs
  for index, (weight, bias) in enumerate(layers):
    if index:
      hidden = mlp.ACTIVATIONS[activation](hidden)
    product = jnp.matmul(hidden, weight, precision=precision)
    hidden = product + bias[..., None, :]
  return hidden


def fold(
  params: types.Params,
  statistics: statistics_lib.Statistics,
  *,
  predict_reward: bool = False,
  predict_done: bool = False,
) -> Model:
  """Folds weight norms and the scales of inputs and outputs into the weights.

  A dimension that is constant in the data, such as a goal within an episode, is
  predicted to stay exactly constant: its delta has standard deviation 0.

  Args:
    params: of all members.
    statistics: of the data that the members were fitted to.
    predict_reward: whether a reward output follows those of observations.
    predict_done: whether the last output is the log-odds of a termination.

  Returns:
    A `Model` with a leading member axis on every leaf.
  """
  inputs, deltas = statistics.inputs, statistics.targets
  low, high = statistics.low, statistics.high
  layers = list(plain_layers(params))
  weight, bias = layers[0]
  chex.assert_rank(
    [weight, inputs.mean, deltas.mean, low, high], [3, 1, 1, 1, 1]
  )
  layers[0] = (
    weight / normalizer.scale(inputs)[None, :, None],
    bias,
  )
  means, stds, bounds = [deltas.mean], [deltas.std], [inputs.mean, low, high]
  if predict_reward:
    reward = statistics.reward or normalizer.identity(1)
    means.append(reward.mean)
    stds.append(reward.std)
    least, greatest = statistics.reward_low, statistics.reward_high
    widest = jnp.full(1, statistics_lib.WIDEST, low.dtype)
    bounds.append(-widest if least is None else least)
    bounds.append(widest if greatest is None else greatest)
  if predict_done:  # Log-odds have no scale.
    means.append(jnp.zeros_like(low, shape=1))
    stds.append(jnp.ones_like(low, shape=1))
  mean, std = jnp.concatenate(means), jnp.concatenate(stds)
  weight, bias = layers[-1]
  layers[-1] = (
    weight * std[None, None],
    bias * std[None] + mean[None],
  )
  num_models = bias.shape[0]
  return Model(
    tuple(layers),
    *(jnp.broadcast_to(x, (num_models, *x.shape)) for x in bounds),
  )


def predict(
  model: Model,
  carry: _Carry,
  obs: jax.Array,
  env_action: jax.Array,
  key: jax.Array | None = None,
  *,
  model_input: Callable[[jax.Array], jax.Array] = lambda obs: obs,
  activation: str = 'relu',
  precision: str = 'highest',
  predict_reward: bool = False,
  predict_done: bool = False,
) -> tuple[_Carry, base.Prediction]:
  """One member's predictions; use `jax.vmap` over `model` for all members.

  Args:
    model: one member, without the member axis.
    carry: returned unchanged; models with memory use it.
    obs: `[N, O]`.
    env_action: `[N, A]`, in [-1, 1].
    key: unused; stochastic models use it.
    model_input: the environment's `model_input`, applied to `obs`.
    activation: of the hidden layers.
    precision: of the matrix products.
    predict_reward: see `fold`.
    predict_done: see `fold`.

  Returns:
    The carry and the prediction. Next observations `[N, O]` are clipped to
    `[low, high]`, and NaN where the network's output is not finite; the same
    holds for rewards `[N]`. Terminations `[N]` are 1. where the log-odds are
    above 0.
  """
  del key
  chex.assert_equal_rank([obs, env_action])
  chex.assert_equal_shape_prefix([obs, env_action], obs.ndim - 1)
  mean, low, high = (
    broadcasting.leading(x, obs.ndim)
    for x in (model.input_mean, model.low, model.high)
  )
  inputs = jnp.concatenate([model_input(obs), env_action], -1) - mean
  output = forward(
    model.layers, inputs, activation=activation, precision=precision
  )
  size = obs.shape[-1]
  chex.assert_axis_dimension(output, -1, size + predict_reward + predict_done)
  delta = output[..., :size]
  next_obs = jnp.clip(obs + delta, low, high)
  # Without this check, clipping would hide an infinite prediction.
  predicted = base.Prediction(jnp.where(jnp.isfinite(delta), next_obs, jnp.nan))
  if predict_reward:
    reward = output[..., size]
    bounded = jnp.clip(reward, model.reward_low[0], model.reward_high[0])
    predicted = predicted._replace(
      reward=jnp.where(jnp.isfinite(reward), bounded, jnp.nan)
    )
  if predict_done:
    predicted = predicted._replace(
      terminated=(output[..., -1] > 0).astype(obs.dtype)
    )
  return carry, predicted


def loss(
  params: types.Params,
  inputs: jax.Array,
  targets: jax.Array,
  weight: jax.Array,
  key: jax.Array | None = None,
  *,
  activation: str = 'relu',
  precision: str = 'highest',
  predict_done: bool = False,
) -> jax.Array:
  """One member's squared errors, mean over O, summed over rows by `weight`.

  Args:
    params: of one member, without the member axis.
    inputs: standardised, `[B, I]`.
    targets: standardised deltas, `[B, O]`, followed by a reward and a
      termination if they are predicted.
    weight: `[B]`.
    key: unused.
    activation: of the hidden layers.
    precision: of the matrix products.
    predict_done: whether the last target is 1. where the episode ended. Its
      error is then the cross-entropy, one of the terms of the mean.
  """
  del key
  chex.assert_rank([inputs, targets, weight], [2, 2, 1])
  chex.assert_equal_shape_prefix([inputs, targets, weight], 1)
  *hidden, (output, bias) = plain_layers(params)
  # On a CPU, XLA computes the gradient of a weight [in, few] about eight times
  # slower than that of its transpose. The barrier keeps XLA from removing the
  # transposes.
  layers = (*hidden, (jax.lax.optimization_barrier(output.T).T, bias))
  output = forward(layers, inputs, activation=activation, precision=precision)
  error = jnp.square(output - targets)
  if predict_done:
    odds, ended = output[:, -1], targets[:, -1]
    entropy = jax.nn.softplus(odds) - ended * odds
    error = jnp.concatenate([error[:, :-1], entropy[:, None]], -1)
  return jnp.sum(jnp.mean(error, -1) * weight)
