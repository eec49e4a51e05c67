"""The policy and critics of DDPG and TD3, built from a configuration."""

from mbmpo_jax.algorithms.ddpg import config as config_lib
from mbmpo_jax.algorithms.ddpg import learner as learner_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.networks import critics
from mbmpo_jax.policies import flax_policy
from mbmpo_jax.policies import squashed


def make(
  env: envs_base.Environment, config: config_lib.Config
) -> learner_lib.Networks:
  """The policy and critics of a configuration; TD3 has two critics."""
  section = config.policy
  network = squashed.Deterministic(
    env.action_size, section.hidden_sizes, section.activation
  )
  return learner_lib.Networks(
    policy=flax_policy.make(network, env.observation_size, env.action_size),
    critics=critics.Critics(
      config.critic.hidden_sizes,
      config.critic.activation,
      num_critics=2 if config.learn.kind == 'td3' else 1,
    ),
    observation_size=env.observation_size,
    action_size=env.action_size,
  )
