"""Surrogate models of all kinds, as a `models.base.Dynamics`.

  surrogate = make(env, section)
  params = surrogate.dynamics.init(key)                    # leaves [1, ...]
  member = jax.tree.map(lambda x: x[0], params)
  loss, info = surrogate.loss(member, context, targets, key)  # equation 10
  model = surrogate.dynamics.ready(params, statistics)     # leaves [1, ...]
  latent = surrogate.encode(model of the member, context, key)  # q(z_c)

`section.kind` selects the model; algorithms are the same for all kinds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.envs import base as env_base
from mbmpo_jax.models import base
from mbmpo_jax.models import dropout
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import projected
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import targets as targets_lib
from mbmpo_jax.models.neural_process import config
from mbmpo_jax.models.neural_process import graph
from mbmpo_jax.models.neural_process import parts
from mbmpo_jax.models.neural_process import pooled
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.objectives import elbo


class Latent(NamedTuple):
  """q(z_c) of a task, and a sample from it."""

  mean: jax.Array  # [Z]
  log_std: jax.Array  # [Z]
  sample: jax.Array  # [Z]


class Surrogate(NamedTuple):
  """A surrogate model, an ensemble with one member.

  Attributes:
    dynamics: the model's functions. The context that `start` takes is a
      `sets.Points`, not standardised.
    loss: `(params of the member, context, targets, key) -> (scalar,
      elbo.Info)`, with both sets standardised (`sets.standardize`); consumes
      the key. The keyword `kl_weight` may be traced.
    encode: `(model of the member, context, key) -> Latent`, with the context as
      for `start`; consumes the key. `None` for models without an encoder.
  """

  dynamics: base.Dynamics
  loss: Callable[..., tuple[jax.Array, elbo.Info]]
  encode: Callable[..., Latent] | None


class _Carry(NamedTuple):
  """The carry of N rollouts, which share the context."""

  encoding: parts.Encoding
  z: Any  # [N, Z] if the task has one z; () if z is sampled at every step


def make(env: env_base.Environment, section: config.Surrogate) -> Surrogate:
  """The model of `section.kind` for an environment.

  `start` encodes the context once per rollout. With GSSM, `predict` samples z
  from q(z_* | x_*, context) at every step (equation 11). A neural process has
  one z for the task; `start` samples it once for each rollout.

  Args:
    env: gives sizes and `model_input`.
    section: kind and sizes of the model.

  Returns:
    The functions; `encode` is `None` for M-DPILCO.

  Raises:
    ValueError: if there is no such kind.
  """
  if section.kind == 'dropout':
    return _make_dropout(env, section)
  network: Any = make_network(section, env.observation_size)
  input_size = statistics_lib.input_size(env)

  def init(key: jax.Array) -> types.Params:
    points = sets.empty(1, input_size, env.observation_size)
    params = network.init(key, points, points)
    return jax.tree.map(lambda x: x[None], params)

  def encoding_of(model: dropout.Model, context: sets.Points) -> parts.Encoding:
    chex.assert_rank([context.x, context.y, context.mask], [2, 2, 1])
    points = sets.standardize(sets.live(context), model.statistics)
    with jax.default_matmul_precision(section.precision):
      return network.apply(model.params, points, method='encode')

  def encode(
    model: dropout.Model, context: sets.Points, key: jax.Array
  ) -> Latent:
    mean, log_std = encoding_of(model, context).latent
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return Latent(mean, log_std, mean + jnp.exp(log_std) * noise)

  def start(
    model: dropout.Model, key: jax.Array, context: sets.Points, num: int
  ) -> _Carry:
    encoding = encoding_of(model, context)
    if network.per_target:
      return _Carry(encoding, ())
    mean, std = encoding.latent.mean, jnp.exp(encoding.latent.log_std)
    noise = jax.random.normal(key, (num, mean.shape[0]), mean.dtype)
    return _Carry(encoding, mean[None] + std[None] * noise)

  def predict(
    model: dropout.Model,
    carry: _Carry,
    obs: jax.Array,
    env_action: jax.Array,
    key: jax.Array,
  ) -> tuple[_Carry, base.Prediction]:
    chex.assert_rank([obs, env_action], 2)
    chex.assert_equal_shape_prefix([obs, env_action], 1)
    latent_key, output_key = jax.random.split(key)
    inputs = jnp.concatenate([env.model_input(obs), env_action], -1)
    x = normalizer.standardize(model.statistics.inputs, inputs)
    encoding, z = carry
    with jax.default_matmul_precision(section.precision):
      if network.per_target:
        latent = network.apply(model.params, encoding, x, method='latent')
        noise = jax.random.normal(latent_key, latent.mean.shape, x.dtype)
        z = latent.sample(noise)
      density = network.apply(model.params, encoding, x, z, method='decode')
    y = density.mean
    if section.sample_output:
      y = density.sample(jax.random.normal(output_key, y.shape, y.dtype))
    next_obs = targets_lib.next_obs(
      y, obs, model.statistics, kind=section.target
    )
    return carry, base.Prediction(next_obs)

  def loss(
    params: types.Params,
    context: sets.Points,
    targets: sets.Points,
    key: jax.Array,
    *,
    kl_weight: jax.Array | float = section.kl_weight,
  ) -> tuple[jax.Array, elbo.Info]:
    with jax.default_matmul_precision(section.precision):
      return elbo.loss(
        network,
        params,
        context,
        targets,
        key,
        num_particles=section.num_particles,
        kl_weight=kl_weight,
      )

  def loss_of_rows(
    params: types.Params,
    inputs: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    key: jax.Array,
  ) -> jax.Array:
    """The loss of rows of one task, split at random, times their weights."""
    split_key, key = jax.random.split(key)
    mask = (weight > 0).astype(inputs.dtype)
    context, rest = elbo.split(
      sets.Points(inputs, targets, mask),
      split_key,
      context_size=section.context_size,
      target_size=section.target_size,
      min_context=section.min_context,
    )
    return loss(params, context, rest, key)[0] * jnp.sum(weight)

  dynamics = base.Dynamics(
    init=init,
    ready=dropout.ready,
    start=start,
    predict=predict,
    loss=loss_of_rows,
  )
  return Surrogate(projected.make(dynamics, env), loss, encode)


def make_network(
  section: config.Surrogate, output_size: int
) -> graph.Graph | pooled.Pooled:
  """The flax module of a kind with an encoder.

  Args:
    section: kind and sizes of the model.
    output_size: O.

  Raises:
    ValueError: if the kind is not `graph`, `mean` or `attentive`.
  """
  if section.kind == 'graph':
    return graph.Graph(section, output_size)
  if section.kind in ('mean', 'attentive'):
    return pooled.Pooled(section, output_size, section.kind == 'attentive')
  raise ValueError(
    f"kind={section.kind!r}: must be one of 'graph', 'mean', 'attentive'"
  )


def statistics(
  points: sets.Points,
  next_obs: jax.Array,
  section: config.Surrogate,
) -> statistics_lib.Statistics:
  """Statistics of the data for the model: bounds, and moments if it uses them.

  Args:
    points: the data of all tasks, `[B, ...]`.
    next_obs: `[B, O]`.
    section: gives `standardize` and `clip_margin`.
  """
  fitted = statistics_lib.fit(
    points.x, points.y, next_obs, points.mask, clip_margin=section.clip_margin
  )
  return fitted if section.standardize else targets_lib.unscaled(fitted)


def _make_dropout(
  env: env_base.Environment, section: config.Surrogate
) -> Surrogate:
  """M-DPILCO, which learns from all points of context and targets."""
  dynamics = dropout.make(env, section)

  def loss(
    params: types.Params,
    context: sets.Points,
    targets: sets.Points,
    key: jax.Array,
    *,
    kl_weight: jax.Array | float = section.kl_weight,
  ) -> tuple[jax.Array, elbo.Info]:
    del kl_weight
    x, y, mask = sets.live(sets.union(context, targets))
    weight = mask / jnp.maximum(jnp.sum(mask), 1)
    nll = dynamics.loss(params, x, y, weight, key)
    return nll, elbo.Info(nll, jnp.zeros_like(nll))

  return Surrogate(dynamics, loss, None)
