"""The networks of DDPG and TD3, and one gradient update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.algorithms.ddpg import config as config_lib
from mbmpo_jax.networks import critics
from mbmpo_jax.objectives import dpg
from mbmpo_jax.objectives import q_learning
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions


class Networks(NamedTuple):
  """A memoryless policy and its critics."""

  policy: policies.Policy
  critics: critics.Critics
  observation_size: int
  action_size: int

  def act(self, params: types.Params, obs: jax.Array) -> jax.Array:
    """mu(s) [B, A] at `obs` [B, O]."""
    assert self.policy.distribution is not None
    dist = self.policy.distribution(params, (), obs)
    return dist.to_env(dist.mode())

  def q(
    self, params: types.Params, obs: jax.Array, action: jax.Array
  ) -> jax.Array:
    """Q of all critics [B, C]."""
    return jnp.asarray(self.critics.apply(params, obs, action))

  def first_q(
    self, params: types.Params, obs: jax.Array, action: jax.Array
  ) -> jax.Array:
    """Q of the first critic [B, 1]."""
    return jnp.asarray(self.critics.apply(params, obs, action, first=True))


class Nets(NamedTuple):
  """Parameters of policy and critics."""

  policy: types.Params
  critic: types.Params


class Learner(NamedTuple):
  """The learned state."""

  nets: Nets
  target: Nets
  optimizers: Nets  # the optimisers' states
  updates: jax.Array  # int32, number of critic updates


METRICS = {
  **shared_metrics.CRITIC,
  'policy/loss': base.Metric(
    "negative Q of the policy's actions, by the first critic, mean over the"
    ' updates of the policy'
  ),
}


def init(networks: Networks, key: jax.Array, hyper: base.Hyper) -> Learner:
  """New networks and equal targets; consumes the key."""
  policy_key, critic_key = jax.random.split(key)
  example = (
    jnp.zeros((1, networks.observation_size)),
    jnp.zeros((1, networks.action_size)),
  )
  nets = Nets(
    networks.policy.init(policy_key),
    networks.critics.init(critic_key, *example),
  )
  optimizers = _optimizers(hyper)
  return Learner(
    nets=nets,
    target=nets,
    optimizers=Nets(
      optimizers.policy.init(nets.policy), optimizers.critic.init(nets.critic)
    ),
    updates=jnp.zeros((), jnp.int32),
  )


def update(
  learner: Learner,
  hyper: base.Hyper,
  batch: types.Transition,
  key: jax.Array,
  *,
  networks: Networks,
  section: config_lib.Learn,
) -> off_policy.Updated:
  """One update of the critics; every `policy_delay`-th also of the rest.

  Args:
    learner: the state before the update.
    hyper: discount, learning rates, and TD3's smoothing.
    batch: of B transitions.
    key: consumed.
    networks: the policy and its critics.
    section: the choice between DDPG and TD3.
  """
  optimizers = _optimizers(hyper)
  target, states = learner.target, learner.optimizers
  next_action = networks.act(target.policy, batch.next_obs)
  if section.kind == 'td3':
    next_action = dpg.smoothed(
      next_action,
      distributions.normal_noise(key, batch.reward.shape, networks.action_size),
      std=hyper['learn.smoothing_std'],
      clip=hyper['learn.smoothing_clip'],
    )
  y = dpg.targets(
    networks.q,
    target.critic,
    batch.next_obs,
    next_action,
    batch.reward,
    batch.terminated,
    discount=hyper['learn.discount'],
  )
  (critic_loss, q), critic_grad = jax.value_and_grad(
    q_learning.critic_loss, has_aux=True
  )(learner.nets.critic, networks.q, batch.obs, batch.action, y)
  critic, critic_state = off_policy.descend(
    optimizers.critic, critic_grad, states.critic, learner.nets.critic
  )

  def improve() -> tuple[Any, ...]:
    loss, grad = jax.value_and_grad(dpg.actor_loss)(
      learner.nets.policy, networks.act, batch.obs, networks.first_q, critic
    )
    policy, state = off_policy.descend(
      optimizers.policy, grad, states.policy, learner.nets.policy
    )
    followed = optax.incremental_update(
      Nets(policy, critic), target, hyper['learn.target_rate']
    )
    return policy, state, followed, loss, masking.sums_finite(grad)

  def wait() -> tuple[Any, ...]:
    loss = jnp.full_like(critic_loss, jnp.nan)
    return learner.nets.policy, states.policy, target, loss, jnp.array(True)

  updates = learner.updates + 1
  delay = section.policy_delay if section.kind == 'td3' else 1
  if delay == 1:
    policy, policy_state, target, policy_loss, finite = improve()
  else:
    policy, policy_state, target, policy_loss, finite = jax.lax.cond(
      updates % delay == 0, improve, wait
    )
  return off_policy.Updated(
    Learner(
      nets=Nets(policy, critic),
      target=target,
      optimizers=Nets(policy_state, critic_state),
      updates=updates,
    ),
    {
      'critic/loss': critic_loss,
      'critic/q': jnp.mean(q),
      'policy/loss': policy_loss,
    },
    finite & masking.sums_finite(critic_grad),
  )


def _optimizers(hyper: base.Hyper) -> Nets:
  return Nets(
    *(optax.adam(hyper[f'{name}.learning_rate']) for name in Nets._fields)
  )
