"""Inputs of an off-policy algorithm's networks, normalised if it says so.

The moments are part of the state: `InputMoments`, or () where the networks read
their inputs as they are.
"""

from collections.abc import Callable
from typing import Any

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import normalized
from mbmpo_jax.policies import normalized_inputs


def start(
  env: envs_base.Environment, section: off_policy_config.Collect
) -> Any:
  """The moments before any transition; () if nothing is normalised."""
  if not section.normalize_observations:
    return ()
  return normalized_inputs.start(env.observation_size)


def update(moments: Any, transitions: types.Transition) -> Any:
  """The moments after the finite ones of further transitions [B, ...]."""
  if not isinstance(moments, normalized_inputs.InputMoments):
    return moments
  return normalized_inputs.update(
    moments,
    transitions.obs,
    transitions.reward,
    masking.sound_rows(transitions).astype(float),
  )


def read(moments: Any, inputs: Any) -> Any:
  """The inputs as the networks read them.

  Args:
    moments: of the state.
    inputs: observations `[..., O]`, or observations with their histories.
  """
  if not isinstance(moments, normalized_inputs.InputMoments):
    return inputs
  return normalized_inputs.normalize(moments, inputs)


def acting(
  policy: policies.Policy,
  env: envs_base.Environment,
  section: off_policy_config.Collect,
) -> tuple[policies.Policy, Callable[[types.Params, Any], types.Params]]:
  """The policy that acts, and its parameters from those that are learned.

  Args:
    policy: as it is learned; it reads normalised inputs if the section says so.
    env: gives sizes.
    section: whether inputs are normalised.

  Returns:
    The policy for inputs as they are, and `(learned params, moments) ->
    params`.
  """
  if not section.normalize_observations:
    return policy, lambda learned, moments: learned
  return (
    normalized_inputs.make(policy, env.observation_size),
    normalized.Params,
  )
