"""M3PO's policy and critics, built from a configuration."""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.algorithms.m3po import config as config_lib
from mbmpo_jax.algorithms.sac import learner as learner_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.networks import history as networks_lib
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import history as policy_lib
from mbmpo_jax.rollouts import history


def make_policy(
  env: envs_base.Environment, config: config_lib.Config
) -> policies.Policy:
  """The squashed Gaussian policy of a configuration, for an environment."""
  section = config.policy
  network = policy_lib.Gaussian(
    env.action_size,
    section.hidden_sizes,
    section.activation,
    config.history.units,
    section.min_log_std,
    section.max_log_std,
  )
  return policy_lib.make(
    network,
    env.observation_size,
    env.action_size,
    length=config.history.length,
  )


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  policy: policies.Policy,
) -> learner_lib.Networks:
  """The policy and two critics, each with its own GRU.

  Args:
    env: gives sizes.
    config: of the experiment.
    policy: from `make_policy`.

  Returns:
    Functions whose inputs are a `history.Seen`: Q(h, s, a) and pi(a | h, s).
  """
  section = config.critic
  q = networks_lib.Critics(
    section.hidden_sizes, section.activation, config.history.units
  )

  def dist(params: types.Params, seen: history.Seen) -> Any:
    assert policy.distribution is not None
    return policy.distribution(params, seen.window, seen.obs)

  def apply(params: types.Params, seen: history.Seen, action: jax.Array) -> Any:
    return q.apply(params, seen.obs, seen.window, action)

  def init_critic(key: jax.Array) -> types.Params:
    obs = jnp.zeros((1, env.observation_size))
    action = jnp.zeros((1, env.action_size))
    window = history.empty(
      1, env.observation_size, env.action_size, length=config.history.length
    )
    return q.init(key, obs, window, action)

  return learner_lib.Networks(
    init_policy=policy.init,
    dist=dist,
    init_critic=init_critic,
    q=apply,
    noise=policy.noise,
    action_size=env.action_size,
  )
