"""Checks of a user's policy: shapes, and log-probabilities."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions


def check_policy(env: envs_base.Environment, policy: policies.Policy) -> None:
  """Checks a policy's shapes, without computing, and its log-probabilities.

  Raises:
    config.ConfigError: if it has no density, cannot act on an observation, or
      its actions or log-probabilities are wrong.
  """
  if policy.over is None or policy.distribution is None:
    raise config_lib.ConfigError(
      'policy: has no density: must have `distribution` and `over`'
    )

  def act(key: jax.Array, obs: jax.Array) -> jax.Array:
    params = policy.init(key)
    carry = policy.start(params, key, (), 1)
    noise = policy.noise(key, (1,))
    return policy.act(params, carry, obs, noise)[1].env

  obs = jax.ShapeDtypeStruct((1, env.observation_size), jnp.zeros(()).dtype)
  try:
    action = jax.eval_shape(act, jax.random.PRNGKey(0), obs)
  except Exception as error:  # A user's network may raise anything.
    raise config_lib.ConfigError(
      f'policy: cannot act on observations of shape {list(obs.shape)}:'
      f' {" ".join(str(error).split())}'
    ) from error
  if action.shape != (1, env.action_size):
    raise config_lib.ConfigError(
      f'policy: its actions have shape {list(action.shape)}: must be'
      f" {[1, env.action_size]}, the environment's"
    )
  _check_density(env, policy)


def _check_density(env: envs_base.Environment, policy: policies.Policy) -> None:
  """Checks that log-probabilities are per action, and agree between methods.

  Values are computed only for a user's own distribution; those of
  `policies/distributions.py` are tested.

  Raises:
    config.ConfigError: if they are wrong.
  """
  assert policy.distribution is not None
  count, kinds = 5, []

  def of_batch(
    params: types.Params, obs: jax.Array, noise: Any
  ) -> tuple[jax.Array, jax.Array]:
    assert policy.distribution is not None
    carry = policy.start(params, jax.random.PRNGKey(0), (), obs.shape[0])
    dist = policy.distribution(params, carry, obs)
    kinds.append(type(dist))
    return dist.log_prob(dist.sample(noise)), dist.log_prob_of_noise(noise)

  def draw(key: jax.Array) -> tuple[types.Params, jax.Array, Any]:
    obs = jax.random.normal(key, (count, env.observation_size))
    return policy.init(key), obs, policy.noise(key, (count,))

  def densities(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    return of_batch(*draw(key))

  def alone(key: jax.Array) -> jax.Array:
    params, *rows = draw(key)

    def one(rows: Any) -> jax.Array:
      row = jax.tree.map(lambda x: x[None], rows)
      return of_batch(params, *row)[0][0]

    return jax.vmap(one)(rows)

  key = jax.random.PRNGKey(0)
  try:
    shapes = [x.shape for x in jax.eval_shape(densities, key)]
  except Exception as error:  # A user's distribution may raise anything.
    raise config_lib.ConfigError(
      'policy: the log-probability of its actions cannot be computed:'
      f' {" ".join(str(error).split())}'
    ) from error
  if shapes != [(count,)] * 2:
    raise config_lib.ConfigError(
      f'policy: log_prob and log_prob_of_noise of {count} actions have shapes'
      f' {[list(shape) for shape in shapes]}: must be {[count]}'
    )
  if kinds[0].__module__ == distributions.__name__:
    return
  of_action, of_noise = map(np.asarray, jax.jit(densities)(key))
  others = {
    'log_prob_of_noise of its noise': of_noise,
    'log_prob in a batch of one': np.asarray(jax.jit(alone)(key)),
  }
  for what, other in others.items():
    wrong = ~np.isclose(of_action, other, rtol=1e-3, atol=1e-3)
    if wrong.any():
      first = int(wrong.argmax())
      raise config_lib.ConfigError(
        f'policy: {kinds[0].__name__}.log_prob of a sampled action is'
        f' {of_action[first]:.4g}, but {what} is {other[first]:.4g}: must be'
        ' equal'
      )
