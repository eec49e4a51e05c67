"""SAC's policy and critics, built from a configuration."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.algorithms.sac import config as config_lib
from mbmpo_jax.algorithms.sac import learner as learner_lib
from mbmpo_jax.networks import critics
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy
from mbmpo_jax.policies import squashed


class Sizes(Protocol):
  """Sizes of inputs and actions of the networks, as an environment has them."""

  @property
  def observation_size(self) -> int:
    """O, the size of the networks' input."""
    ...

  @property
  def action_size(self) -> int:
    """A, the size of an action."""
    ...


def make_policy(sizes: Sizes, section: config_lib.Policy) -> policies.Policy:
  """The squashed Gaussian policy of a configuration, for given sizes."""
  network = squashed.Gaussian(
    sizes.action_size,
    section.hidden_sizes,
    section.activation,
    section.min_log_std,
    section.max_log_std,
  )
  return flax_policy.make(network, sizes.observation_size, sizes.action_size)


def make(
  sizes: Sizes,
  config: config_lib.Config,
  policy: policies.Policy,
) -> learner_lib.Networks:
  """A memoryless policy and two critics, with observations as inputs."""
  q = critics.Critics(config.critic.hidden_sizes, config.critic.activation)

  def dist(params: types.Params, obs: jax.Array) -> distributions.Distribution:
    assert policy.distribution is not None
    return policy.distribution(params, (), obs)

  def apply(params: types.Params, obs: jax.Array, action: jax.Array) -> Any:
    return q.apply(params, obs, action)

  def init_critic(key: jax.Array) -> types.Params:
    return q.init(
      key,
      jnp.zeros((1, sizes.observation_size)),
      jnp.zeros((1, sizes.action_size)),
    )

  return learner_lib.Networks(
    init_policy=policy.init,
    dist=dist,
    init_critic=init_critic,
    q=apply,
    noise=policy.noise,
    action_size=sizes.action_size,
  )
