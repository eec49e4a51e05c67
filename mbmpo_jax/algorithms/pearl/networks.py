"""PEARL's encoder, policy and critics, built from a configuration."""

from typing import NamedTuple

from mbmpo_jax.algorithms.pearl import config as config_lib
from mbmpo_jax.algorithms.pearl import learner as learner_lib
from mbmpo_jax.algorithms.sac import networks as sac
from mbmpo_jax.networks import context
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import inferring


class Sizes(NamedTuple):
  """Sizes of inputs and actions of policy and critics."""

  observation_size: int  # O + Z
  action_size: int


def make(
  env: sac.Sizes, config: config_lib.Config
) -> tuple[policies.Policy, learner_lib.Networks]:
  """The policy that infers its task, and the networks to train.

  Args:
    env: gives sizes.
    config: of the experiment.

  Returns:
    The policy pi(a | s, z) with z ~ q(z | c), and its encoder and networks.
  """
  section = config.context
  encoder = context.Encoder(
    section.latent_size, section.hidden_sizes, section.activation
  )
  sizes = Sizes(env.observation_size + section.latent_size, env.action_size)
  with_latent = sac.make_policy(sizes, config.policy)
  policy = inferring.make(
    with_latent,
    encoder,
    env.observation_size,
    env.action_size,
    length=section.length,
  )
  networks = learner_lib.Networks(encoder, sac.make(sizes, config, with_latent))
  return policy, networks
