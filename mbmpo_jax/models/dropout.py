"""M-DPILCO: a Bayesian network by dropout (Gal et al. 2016), over all tasks.

Units of every hidden layer are dropped with probability p, and the others are
scaled by 1 / (1 - p). A sample of all masks is a sample of the network. In
training every row has its own masks. In imagination every particle keeps its
masks for a whole rollout, so that its dynamics are consistent. The model has no
context.

  p(y | x, masks) = N(mu, sigma^2), both outputs of the network.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax import types
from mbmpo_jax.envs import base as env_base
from mbmpo_jax.models import base
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import projected
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import targets as targets_lib
from mbmpo_jax.models.neural_process import config
from mbmpo_jax.models.neural_process import parts
from mbmpo_jax.policies import distributions

Masks = tuple[jax.Array, ...]  # [N, units] of each hidden layer


class Network(nn.Module):
  """ReLU layers, each multiplied by a given mask.

  Attributes:
    hidden_sizes: units of each hidden layer.
    output_size: O.
    min_std: floor of the deviations.
  """

  hidden_sizes: tuple[int, ...]
  output_size: int
  min_std: float

  @nn.compact
  def __call__(self, x: jax.Array, masks: Masks) -> distributions.Gaussian:
    """p(y) [N, O] at `x` [N, I], with masks [N, units] of the layers."""
    dense = functools.partial(
      nn.Dense,
      kernel_init=nn.initializers.lecun_uniform(),
      param_dtype=x.dtype,
    )
    for size, mask in zip(self.hidden_sizes, masks, strict=True):
      x = nn.relu(dense(size)(x)) * mask
    outputs = dense(2 * self.output_size)(x)
    return parts.gaussian(outputs, self.min_std)


class Model(NamedTuple):
  """The model for `predict`; for all members, with a leading axis of 1."""

  params: types.Params
  statistics: statistics_lib.Statistics


def draw_masks(
  key: jax.Array, num: int, sizes: tuple[int, ...], rate: float
) -> Masks:
  """Masks `[num, size]` of 0 and 1 / (1 - rate), one per layer.

  Consumes `key`.
  """
  keys = jax.random.split(key, len(sizes))
  return tuple(
    jax.random.bernoulli(key, 1 - rate, (num, size)) / (1 - rate)
    for key, size in zip(keys, sizes, strict=True)
  )


def make(env: env_base.Environment, section: config.Surrogate) -> base.Dynamics:
  """The model for an environment; its carry holds the masks of N particles.

  If a rollout restarts, its particle keeps its masks. `loss` is the negative
  log-likelihood, with new masks for every row. The prior of the weights is the
  optimiser's weight decay. The context is ignored.

  Args:
    env: gives sizes and `model_input`.
    section: layer sizes, dropout rate, floor of the deviation, and target.
  """
  sizes = section.decoder_sizes
  network: Any = Network(sizes, env.observation_size, section.min_std)
  input_size = statistics_lib.input_size(env)

  def masks_of(key: jax.Array, num: int) -> Masks:
    return draw_masks(key, num, sizes, section.dropout_rate)

  def init(key: jax.Array) -> types.Params:
    mask_key, key = jax.random.split(key)
    params = network.init(
      key, jnp.zeros((1, input_size)), masks_of(mask_key, 1)
    )
    return jax.tree.map(lambda x: x[None], params)

  def start(model: Model, key: jax.Array, context: object, num: int) -> Masks:
    del model, context
    return masks_of(key, num)

  def predict(
    model: Model,
    carry: Masks,
    obs: jax.Array,
    env_action: jax.Array,
    key: jax.Array,
  ) -> tuple[Masks, base.Prediction]:
    chex.assert_rank([obs, env_action], 2)
    inputs = jnp.concatenate([env.model_input(obs), env_action], -1)
    x = normalizer.standardize(model.statistics.inputs, inputs)
    with jax.default_matmul_precision(section.precision):
      density = network.apply(model.params, x, carry)
    y = density.mean
    if section.sample_output:
      y = density.sample(jax.random.normal(key, y.shape, y.dtype))
    next_obs = targets_lib.next_obs(
      y, obs, model.statistics, kind=section.target
    )
    return carry, base.Prediction(next_obs)

  def loss(
    params: types.Params,
    inputs: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    key: jax.Array,
  ) -> jax.Array:
    chex.assert_rank([inputs, targets, weight], [2, 2, 1])
    masks = masks_of(key, inputs.shape[0])
    with jax.default_matmul_precision(section.precision):
      density = network.apply(params, inputs, masks)
    return -jnp.sum(density.log_prob(targets) * weight)

  dynamics = base.Dynamics(
    init=init, ready=ready, start=start, predict=predict, loss=loss
  )
  return projected.make(dynamics, env)


def ready(params: types.Params, statistics: statistics_lib.Statistics) -> Model:
  """Parameters and statistics, both with a member axis [1, ...]."""
  return Model(params, jax.tree.map(lambda x: x[None], statistics))
