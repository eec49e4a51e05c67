"""A policy made of a flax network from observations to a distribution."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax import types
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions


def make(
  module: nn.Module,
  observation_size: int,
  action_size: int,
  *,
  noise: Callable[..., Any] = distributions.normal_noise,
) -> base.Policy:
  """The memoryless policy whose density is the output of `module`.

  Args:
    module: maps observations `[..., O]` to a `distributions.Distribution`
      `[..., A]`. It must not use random numbers, nor variables other than
      parameters.
    observation_size: O.
    action_size: A.
    noise: `(key, shape, action_size) -> noise` for the distribution's `sample`:
      `distributions.normal_noise`, or `gumbel_noise` for a `Categorical`.

  Raises:
    ValueError: if the distribution's actions are not of size A.

  Example:
    >>> class Walk(nn.Module):
    ...   @nn.compact
    ...   def __call__(self, obs):
    ...     mean = nn.Dense(2)(obs)
    ...     return distributions.Gaussian(mean, jnp.zeros_like(mean))
    >>> policy = make(Walk(), observation_size=4, action_size=2)
    >>> params = policy.init(jax.random.PRNGKey(0))
    >>> policy.distribution(params, (), jnp.ones((3, 4))).mode().shape
    (3, 2)
  """

  def init(key: jax.Array) -> types.Params:
    return module.init(key, jnp.zeros((1, observation_size)))

  def mode(key: jax.Array) -> jax.Array:
    return distribution(init(key), jnp.zeros((1, observation_size))).mode()

  def distribution(params: types.Params, obs: jax.Array) -> Any:
    return module.apply(params, obs)

  shape = jax.eval_shape(mode, jax.random.PRNGKey(0)).shape
  if shape != (1, action_size):
    raise ValueError(
      f'{type(module).__name__}: its actions have shape {shape} for one'
      f' observation: must have (1, {action_size})'
    )
  return base.memoryless(
    init,
    distribution,
    noise=functools.partial(noise, action_size=action_size),
  )
