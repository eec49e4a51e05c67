"""The networks of SAC, and one gradient update.

This works for networks of any kind. `Networks` gives policy and critics as
functions of parameters and inputs. The inputs may be an observation, an
observation with the latent of a task, or a history.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.objectives import q_learning
from mbmpo_jax.objectives import sac


class Networks(NamedTuple):
  """A policy and its critics, as pure functions.

  Attributes:
    init_policy: key -> params.
    dist: `(params, inputs [B]) -> TanhGaussian [B, A]`.
    init_critic: key -> params of all critics.
    q: `(params, inputs [B], action [B, A]) -> Q [B, C]`.
    noise: `(key, shape) -> noise` of the policy's distribution.
    action_size: A.
  """

  init_policy: Callable[[jax.Array], types.Params]
  dist: sac.DistFn
  init_critic: Callable[[jax.Array], types.Params]
  q: q_learning.QFn
  noise: Callable[[jax.Array, tuple[int, ...]], Any]
  action_size: int


class Batch(NamedTuple):
  """A minibatch, leaves `[B, ...]`."""

  inputs: Any  # s, as inputs of the networks
  action: jax.Array  # [B, A]
  reward: jax.Array
  next_inputs: Any  # s', before a reset
  terminated: jax.Array  # 1. where s' is terminal; 0. at a time limit


class Optimizers(NamedTuple):
  """The three optimisers, or their states."""

  policy: Any
  critic: Any
  temperature: Any


class Learner(NamedTuple):
  """The learned state."""

  policy: types.Params
  critic: types.Params
  target: types.Params  # of the target critics
  log_temperature: jax.Array  # log alpha
  optimizers: Optimizers


METRICS = {
  **shared_metrics.CRITIC,
  'policy/loss': base.Metric(
    "temperature times log-probability of the policy's actions, minus the"
    " critics' smallest Q for them, mean over updates"
  ),
  'policy/entropy': base.Metric(
    'entropy of the policy, estimated from sampled actions, mean over updates,'
    ' in nats'
  ),
  'policy/temperature': base.Metric(
    'temperature alpha, the weight of the entropy, mean over updates'
  ),
}


def init(networks: Networks, key: jax.Array, hyper: base.Hyper) -> Learner:
  """New networks, target critics equal to the critics; consumes the key."""
  policy_key, critic_key = jax.random.split(key)
  policy = networks.init_policy(policy_key)
  critic = networks.init_critic(critic_key)
  log_temperature = jnp.log(hyper['temperature.initial'])
  trained = (policy, critic, log_temperature)
  return Learner(
    policy=policy,
    critic=critic,
    target=critic,
    log_temperature=log_temperature,
    optimizers=Optimizers(
      *(
        optimizer.init(params)
        for optimizer, params in zip(_optimizers(hyper), trained, strict=True)
      )
    ),
  )


def update(
  learner: Learner,
  hyper: base.Hyper,
  batch: Batch,
  key: jax.Array,
  *,
  networks: Networks,
  learn_temperature: bool,
) -> off_policy.Updated:
  """One update of critics, policy, temperature and target critics, in order.

  Args:
    learner: the state before the update.
    hyper: discount, learning rates, target entropy.
    batch: of B transitions.
    key: consumed.
    networks: the policy and its critics.
    learn_temperature: whether alpha is adapted.
  """
  updated, _ = update_and_slope(
    learner,
    hyper,
    batch,
    key,
    networks=networks,
    learn_temperature=learn_temperature,
    slope=False,
  )
  return updated


def update_and_slope(
  learner: Learner,
  hyper: base.Hyper,
  batch: Batch,
  key: jax.Array,
  *,
  networks: Networks,
  learn_temperature: bool,
  slope: bool = True,
) -> tuple[off_policy.Updated, Any]:
  """`update`, and the gradient of the critics' loss in `batch.inputs`.

  The gradient is for a network that computes these inputs and is trained by it.
  Targets and the policy's loss do not contribute.

  Args:
    learner: the state before the update.
    hyper: discount, learning rates, target entropy.
    batch: of B transitions.
    key: consumed.
    networks: the policy and its critics.
    learn_temperature: whether alpha is adapted.
    slope: whether to compute the gradient; otherwise () is returned for it.
  """
  key, next_key = jax.random.split(key)
  count = batch.reward.shape[0]
  temperature = jnp.exp(learner.log_temperature)
  optimizers, states = _optimizers(hyper), learner.optimizers

  next_dist = networks.dist(learner.policy, batch.next_inputs)
  targets = sac.targets(
    networks.q,
    learner.target,
    batch.next_inputs,
    sac.sample(next_dist, networks.noise(next_key, (count,))),
    batch.reward,
    batch.terminated,
    discount=hyper['learn.discount'],
    temperature=temperature,
  )
  (critic_loss, q), (critic_grad, *slopes) = jax.value_and_grad(
    q_learning.critic_loss, (0, 2) if slope else (0,), has_aux=True
  )(learner.critic, networks.q, batch.inputs, batch.action, targets)
  critic, critic_state = off_policy.descend(
    optimizers.critic, critic_grad, states.critic, learner.critic
  )

  (policy_loss, drawn), policy_grad = jax.value_and_grad(
    sac.actor_loss, has_aux=True
  )(
    learner.policy,
    networks.dist,
    batch.inputs,
    networks.noise(key, (count,)),
    networks.q,
    critic,
    temperature=temperature,
  )
  policy, policy_state = off_policy.descend(
    optimizers.policy, policy_grad, states.policy, learner.policy
  )

  log_temperature, temperature_state = (
    learner.log_temperature,
    states.temperature,
  )
  if learn_temperature:
    target_entropy = hyper['temperature.target_entropy'] * networks.action_size
    temperature_grad = jax.grad(sac.temperature_loss)(
      log_temperature, drawn.log_prob, target_entropy=target_entropy
    )
    log_temperature, temperature_state = off_policy.descend(
      optimizers.temperature,
      temperature_grad,
      temperature_state,
      log_temperature,
    )
  updated = off_policy.Updated(
    Learner(
      policy=policy,
      critic=critic,
      target=optax.incremental_update(
        critic, learner.target, hyper['learn.target_rate']
      ),
      log_temperature=log_temperature,
      optimizers=Optimizers(policy_state, critic_state, temperature_state),
    ),
    {
      'critic/loss': critic_loss,
      'critic/q': jnp.mean(q),
      'policy/loss': policy_loss,
      'policy/entropy': -jnp.mean(drawn.log_prob),
      'policy/temperature': temperature,
    },
    masking.sums_finite((critic_grad, policy_grad)),
  )
  return updated, slopes[0] if slope else ()


def _optimizers(hyper: base.Hyper) -> Optimizers:
  return Optimizers(
    *(optax.adam(hyper[f'{name}.learning_rate']) for name in Optimizers._fields)
  )
