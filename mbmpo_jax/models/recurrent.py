"""An ensemble of Gaussians over reward and observation, with GRUs.

Member i of B predicts (Hiraoka et al. 2021, section 6; with L = 0, Janner et
al. 2019)

  p_i(y | h, o, a) = N(mu_i, diag sigma_i^2),  y = [o' - o, r] standardised.

mu_i and log sigma_i are outputs of an MLP. Its inputs are [m(o), a] and the
state of a GRU after the history h, which has L tuples of (m(o), a, r); m is the
environment's `model_input`. Observations, their changes and rewards are
standardised, each dimension by its own moments. Log-deviations have soft bounds
(Chua et al. 2018):

  x <- high - softplus(high - x),  log sigma = low + softplus(x - low).

Members differ in their initial parameters, their validation rows and the order
of their training rows; with `bootstrap` also in draws of these with
replacement. The loss is the negative log-likelihood, weighted mean
over dimensions, minus its greatest lower bound,

  sum_d w_d [ (y_d - mu_d)^2 / (2 sigma_d^2) + log sigma_d - low ] >= 0,

because the early stop compares losses by their ratio, which needs positive
numbers. Members that stop by a `patience` are validated by the squared error
sum_d w_d (y_d - mu_d)^2 instead, as in MBPO. The reward's weight w is
`reward_weight`, that of each of the O dimensions of the observation
(1 - w) / O. With equal weights, members hardly learn a hidden task that only
the reward depends on, such as a direction.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import types
from mbmpo_jax.envs import base as env_base
from mbmpo_jax.models import base
from mbmpo_jax.models import biased
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import projected
from mbmpo_jax.models import recurrent_config
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import targets as targets_lib
from mbmpo_jax.networks import history as networks
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import history


class Model(NamedTuple):
  """One member's model for `predict`; for all members, a leading axis K."""

  params: types.Params
  statistics: statistics_lib.Statistics

  @property
  def low(self) -> jax.Array:
    """Lower bounds of predicted observations, [O]."""
    return self.statistics.low

  @property
  def high(self) -> jax.Array:
    """Upper bounds of predicted observations, [O]."""
    return self.statistics.high


def make(
  env: env_base.Environment,
  section: recurrent_config.Ensemble,
  *,
  length: int,
  units: int,
) -> base.Dynamics:
  """The ensemble for an environment; it predicts rewards.

  Its carry is the history, a `Window` [N, L], or () if L is 0. `start` takes a
  window as context, or () at the start of an episode. `predict` consumes its
  key. Terminations are those of the environment.

  Args:
    env: gives sizes and `model_input`.
    section: number and sizes of the members.
    length: L.
    units: size of the GRU's state.

  Returns:
    The functions of a `Model`. `loss` and `error` need no key.
  """
  size = env.observation_size
  network: Any = networks.Network(
    section.hidden_sizes, 2 * (size + 1), section.activation, units
  )
  input_size = statistics_lib.input_size(env)
  share = section.reward_weight
  share = 1 / (size + 1) if share is None else share
  # Weights of the dimensions in the loss, [O + 1].
  dimensions = np.append(np.full(size, (1 - share) / size), share)

  def density(params: types.Params, x: jax.Array, past: Any) -> Any:
    with jax.default_matmul_precision(section.precision):
      outputs = network.apply(params, x, past)
    return gaussian(
      outputs,
      min_log_std=section.min_log_std,
      max_log_std=section.max_log_std,
    )

  def init(key: jax.Array) -> types.Params:
    past = None
    if length:
      past = (jnp.zeros((1, length, input_size + 1)), jnp.zeros((1, length)))
    return jax.vmap(
      lambda key: network.init(key, jnp.zeros((1, input_size)), past)
    )(jax.random.split(key, section.num_models))

  def ready(
    params: types.Params, statistics: statistics_lib.Statistics
  ) -> Model:
    return Model(
      params,
      jax.tree.map(
        lambda x: jnp.broadcast_to(x, (section.num_models, *x.shape)),
        statistics,
      ),
    )

  def start(model: Model, key: jax.Array, context: Any, num: int) -> Any:
    del model, key
    if isinstance(context, history.Window):
      return context
    return history.empty(num, size, env.action_size, length=length)

  def predict(
    model: Model,
    carry: Any,
    obs: jax.Array,
    env_action: jax.Array,
    key: jax.Array,
  ) -> tuple[Any, base.Prediction]:
    chex.assert_rank([obs, env_action], 2)
    chex.assert_equal_shape_prefix([obs, env_action], 1)
    statistics = model.statistics
    assert statistics.reward is not None
    standard = functools.partial(normalizer.standardize, statistics.inputs)

    def inputs(obs: jax.Array, action: jax.Array) -> jax.Array:
      return standard(jnp.concatenate([env.model_input(obs), action], -1))

    past = None
    if length:
      reward = normalizer.standardize(
        statistics.reward, carry.reward[..., None]
      )
      seen = jnp.concatenate([inputs(carry.obs, carry.action), reward], -1)
      past = (seen, carry.mask)
    predicted = density(model.params, inputs(obs, env_action), past)
    y = predicted.sample(
      jax.random.normal(key, predicted.mean.shape, obs.dtype)
    )
    next_obs = targets_lib.next_obs(y[..., :-1], obs, statistics, kind='delta')
    reward = targets_lib.reward(y[..., -1], statistics)
    carry = history.push(carry, obs, env_action, reward)
    return carry, base.Prediction(next_obs, reward)

  def loss(
    params: types.Params,
    inputs: Any,
    targets: jax.Array,
    weight: jax.Array,
    key: jax.Array | None = None,
  ) -> jax.Array:
    del key
    mean, log_std = density_of(params, inputs, targets, weight)
    z = (targets - mean) * jnp.exp(-log_std)
    excess = 0.5 * jnp.square(z) + log_std - section.min_log_std
    return jnp.sum(excess * dimensions[None] * weight[:, None])

  def error(
    params: types.Params,
    inputs: Any,
    targets: jax.Array,
    weight: jax.Array,
    key: jax.Array | None = None,
  ) -> jax.Array:
    del key
    mean, _ = density_of(params, inputs, targets, weight)
    squared = jnp.square(targets - mean)
    return jnp.sum(squared * dimensions[None] * weight[:, None])

  def density_of(
    params: types.Params, inputs: Any, targets: jax.Array, weight: jax.Array
  ) -> Any:
    """The predicted density of the targets."""
    x, past = inputs if length else (inputs, None)
    chex.assert_rank([x, targets, weight], [2, 2, 1])
    return density(params, x, past)

  learned = base.Dynamics(
    init=init,
    ready=ready,
    start=start,
    predict=predict,
    loss=loss,
    error=error,
  )
  spoilt = biased.make(
    learned,
    num_models=section.num_models,
    bias_max=section.bias_max,
    noise_std=section.noise_std,
  )
  return projected.make(spoilt, env)


def gaussian(
  outputs: jax.Array, *, min_log_std: float, max_log_std: float
) -> distributions.Gaussian:
  """The Gaussian [..., D] given by a network's outputs [..., 2 D]."""
  mean, x = jnp.split(outputs, 2, -1)
  x = max_log_std - jax.nn.softplus(max_log_std - x)
  return distributions.Gaussian(
    mean, min_log_std + jax.nn.softplus(x - min_log_std)
  )
