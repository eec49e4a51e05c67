"""GrBAL: a dynamics model trained to adapt to recent steps.

The gradient-based adaptive learner (Nagabandi et al. 2019, sections 4 and 5) is
MAML (Finn et al. 2017) on the dynamics. A segment is M + K consecutive steps of
an episode. The first M steps adapt the parameters by one gradient step. The
adapted parameters predict the last K steps, and theta is trained through this
adaptation:

  L(theta; t..t') = 1/n sum_j mask_j mean_d (net_theta(x_j)_d - y_j,d)^2
  u(theta)        = theta - alpha grad_theta L(theta; first M)
  minimise          L(u(theta); last K) over theta, mean over segments

with x = [m(o), a] and y = [o' - o] or [o' - o, r], all standardised, where `m`
is the environment's `model_input` and n is M or K. If an episode has fewer than
M steps so far, the missing ones are masked but still counted in n. A few data
therefore change the parameters only a little.

The model can also predict rewards. Tasks that differ only in the reward give it
nothing else to adapt to.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.envs import base as env_base
from mbmpo_jax.models import base
from mbmpo_jax.models import biased
from mbmpo_jax.models import grbal_config
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import projected
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import targets as targets_lib
from mbmpo_jax.networks import mlp
from mbmpo_jax.rollouts import history

# (params, inputs [..., I]) -> [..., Y], standardised.
_Network = Callable[[types.Params, jax.Array], jax.Array]


class Model(NamedTuple):
  """One member's model for `predict`; for all members, a leading axis K."""

  params: types.Params
  statistics: statistics_lib.Statistics
  inner_lr: jax.Array  # [], alpha

  @property
  def low(self) -> jax.Array:
    """Lower bounds of predicted observations, [O]."""
    return self.statistics.low

  @property
  def high(self) -> jax.Array:
    """Upper bounds of predicted observations, [O]."""
    return self.statistics.high


class Grbal(NamedTuple):
  """A dynamics model with its adaptation.

  Attributes:
    dynamics: the model's functions. Its loss is that of segments, see
      `fit.fit_dynamics`: the inputs are a pair, and the targets are part of the
      segments' features.
    adapt: `(model, window, obs) -> model`, for all members [K, ...], as in
      `planner.Adaptation.adapt`.
    errors: `(model, steps [B, M + K], mask [B, M + K], weight [B]) -> (before,
      after)`, the loss of segments of transitions without and with adaptation,
      mean over members.
  """

  dynamics: base.Dynamics
  adapt: Callable[[Any, history.Window, jax.Array], Any]
  errors: Callable[..., tuple[jax.Array, jax.Array]]


def make(
  env: env_base.Environment,
  section: grbal_config.Ensemble,
  *,
  adapt_steps: int,
  inner_lr: jax.Array | float,
  predict_reward: bool,
) -> Grbal:
  """The model for an environment; deterministic, with the carry `()`.

  Args:
    env: gives sizes and `model_input`.
    section: number and sizes of the members.
    adapt_steps: M.
    inner_lr: alpha; may be traced. It is stored in the model.
    predict_reward: whether rewards are predicted.

  Returns:
    The model's functions, its adaptation and the error with and without it.
  """
  size = env.observation_size
  network: Any = mlp.MLP(
    section.hidden_sizes, size + predict_reward, section.activation
  )
  input_size = statistics_lib.input_size(env)

  def apply(params: types.Params, inputs: jax.Array) -> jax.Array:
    with jax.default_matmul_precision(section.precision):
      return network.apply(params, inputs)

  def init(key: jax.Array) -> types.Params:
    return jax.vmap(lambda key: network.init(key, jnp.zeros((1, input_size))))(
      jax.random.split(key, section.num_models)
    )

  def ready(
    params: types.Params, statistics: statistics_lib.Statistics
  ) -> Model:
    shared = (statistics, jnp.asarray(inner_lr, float))
    return Model(
      params,
      *jax.tree.map(
        lambda x: jnp.broadcast_to(x, (section.num_models, *x.shape)), shared
      ),
    )

  def start(model: Model, key: jax.Array, context: Any, num: int) -> tuple[()]:
    del model, key, context, num
    return ()

  def standard_inputs(
    model: Model, obs: jax.Array, action: jax.Array
  ) -> jax.Array:
    return normalizer.standardize(
      model.statistics.inputs,
      jnp.concatenate([env.model_input(obs), action], -1),
    )

  def standard(
    model: Model,
    obs: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    next_obs: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Inputs [..., I] and targets [..., Y] of steps [...]."""
    statistics = model.statistics
    targets = normalizer.standardize(
      statistics.targets, env.change(obs, next_obs)
    )
    if predict_reward:
      assert statistics.reward is not None
      paid = normalizer.standardize(statistics.reward, reward[..., None])
      targets = jnp.concatenate([targets, paid], -1)
    return standard_inputs(model, obs, action), targets

  def predict(
    model: Model,
    carry: Any,
    obs: jax.Array,
    env_action: jax.Array,
    key: jax.Array | None = None,
  ) -> tuple[Any, base.Prediction]:
    del key
    chex.assert_rank([obs, env_action], 2)
    chex.assert_equal_shape_prefix([obs, env_action], 1)
    y = apply(model.params, standard_inputs(model, obs, env_action))
    next_obs = targets_lib.next_obs(
      y[..., :size], obs, model.statistics, kind='delta'
    )
    reward = None
    if predict_reward:
      reward = targets_lib.reward(y[..., size], model.statistics)
    return carry, base.Prediction(next_obs, reward)

  def loss(
    params: types.Params,
    inputs: Any,
    targets: jax.Array,
    weight: jax.Array,
    key: jax.Array | None = None,
  ) -> jax.Array:
    del targets, key
    _, (features, mask) = inputs
    x, y = jnp.split(features, [input_size], -1)
    return segment_loss(
      apply,
      params,
      x,
      y,
      mask,
      weight,
      adapt_steps=adapt_steps,
      inner_lr=inner_lr,
    )

  def adapt(model: Model, window: history.Window, obs: jax.Array) -> Model:
    chex.assert_rank([window.obs, window.reward, obs], [2, 1, 1])
    # The newest step led to `obs`; it is one of the steps to adapt to.
    next_obs = jnp.concatenate([window.obs[1:], obs[None]])

    def one(model: Model) -> Model:
      inputs, targets = standard(
        model, window.obs, window.action, window.reward, next_obs
      )
      params = adapted(
        apply,
        model.params,
        inputs,
        targets,
        window.mask,
        inner_lr=model.inner_lr,
      )
      return model._replace(params=params)

    return jax.vmap(one)(model)

  def errors(
    model: Model, steps: types.Transition, mask: jax.Array, weight: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    def one(model: Model, inner_lr: jax.Array) -> jax.Array:
      inputs, targets = standard(
        model, steps.obs, steps.action, steps.reward, steps.next_obs
      )
      return segment_loss(
        apply,
        model.params,
        inputs,
        targets,
        mask,
        weight,
        adapt_steps=adapt_steps,
        inner_lr=inner_lr,
      )

    before, after = (
      jnp.mean(jax.vmap(one)(model, inner_lr))
      for inner_lr in (jnp.zeros_like(model.inner_lr), model.inner_lr)
    )
    return before, after

  spoilt = biased.make(
    base.Dynamics(
      init=init, ready=ready, start=start, predict=predict, loss=loss
    ),
    num_models=section.num_models,
    bias_max=section.bias_max,
    noise_std=section.noise_std,
  )

  def adapt_inside(model: Any, window: history.Window, obs: jax.Array) -> Any:
    """Adapts the inner model of a biased one; the bias is unchanged."""
    if isinstance(model, biased.Model):
      return model._replace(inner=adapt(model.inner, window, obs))
    return adapt(model, window, obs)

  def errors_inside(model: Any, *segments: Any) -> tuple[jax.Array, jax.Array]:
    return errors(getattr(model, 'inner', model), *segments)

  return Grbal(projected.make(spoilt, env), adapt_inside, errors_inside)


def step_loss(
  network: _Network,
  params: types.Params,
  inputs: jax.Array,
  targets: jax.Array,
  mask: jax.Array,
) -> jax.Array:
  """L, the squared error of n steps: mean over Y, mean over n with the mask.

  Args:
    network: (params, inputs) -> predictions.
    params: of one member.
    inputs: standardised, `[n, I]`.
    targets: standardised, `[n, Y]`.
    mask: `[n]`; masked steps contribute 0 but count in n.
  """
  chex.assert_rank([inputs, targets, mask], [2, 2, 1])
  chex.assert_equal_shape_prefix([inputs, targets, mask], 1)
  error = jnp.mean(jnp.square(network(params, inputs) - targets), -1)
  return jnp.mean(error * mask)


def adapted(
  network: _Network,
  params: types.Params,
  inputs: jax.Array,
  targets: jax.Array,
  mask: jax.Array,
  *,
  inner_lr: jax.Array | float,
) -> types.Params:
  """u(theta), one gradient step on M steps; arguments as in `step_loss`."""
  gradient = jax.grad(step_loss, argnums=1)(
    network, params, inputs, targets, mask
  )
  return jax.tree.map(lambda p, g: p - inner_lr * g, params, gradient)


def segment_loss(
  network: _Network,
  params: types.Params,
  inputs: jax.Array,
  targets: jax.Array,
  mask: jax.Array,
  weight: jax.Array,
  *,
  adapt_steps: int,
  inner_lr: jax.Array | float,
) -> jax.Array:
  """L(u(theta); last K) of B segments, summed by weight; a scalar.

  Args:
    network: (params, inputs) -> predictions.
    params: of one member, theta.
    inputs: standardised, `[B, M + K, I]`.
    targets: standardised, `[B, M + K, Y]`.
    mask: `[B, M + K]`.
    weight: `[B]`.
    adapt_steps: M.
    inner_lr: alpha.
  """
  chex.assert_rank([inputs, targets, mask, weight], [3, 3, 2, 1])
  chex.assert_equal_shape_prefix([inputs, targets, mask], 2)

  def one(*segment: jax.Array) -> jax.Array:
    first, last = (
      [x[place] for x in segment]
      for place in (slice(adapt_steps), slice(adapt_steps, None))
    )
    after = adapted(network, params, *first, inner_lr=inner_lr)
    return step_loss(network, after, *last)

  return jnp.sum(jax.vmap(one)(inputs, targets, mask) * weight)
