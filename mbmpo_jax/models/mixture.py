"""A mixture of an ensemble's members, sampled again at every step."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.models import base


def redrawn(dynamics: base.Dynamics, num_models: int) -> base.Dynamics:
  """Dynamics in which every rollout samples a member again at every step.

  At each step a random permutation assigns the N rollouts to the K members in
  equal shares. The member of a rollout is uniform, and independent between
  steps, as in ME-TRPO (Kurutach et al. 2018, section 4.2). Within a step the
  members of different rollouts are stratified rather than independent. This can
  only lower the variance of a mean over rollouts. A step computes N / K rows
  with each of K members, as much arithmetic as for a single member.

  Args:
    dynamics: the functions of one member's model.
    num_models: K.

  Returns:
    Dynamics whose model is the whole ensemble, leaves `[K, ...]`. `predict`
    consumes its key, and raises `ValueError` if N is not a multiple of K. A
    carry belongs to the rollout, whichever member predicts.
  """

  def start(model: Any, key: jax.Array, context: Any, num: int) -> Any:
    first = jax.tree.map(lambda x: x[0], model)
    return dynamics.start(first, key, context, num)

  def predict(
    model: Any, carry: Any, obs: jax.Array, env_action: jax.Array, key: Any
  ) -> tuple[Any, base.Prediction]:
    chex.assert_rank([obs, env_action], 2)
    chex.assert_equal_shape_prefix([obs, env_action], 1)
    num_rollouts = obs.shape[0]
    if num_rollouts % num_models:
      raise ValueError(
        f'{num_rollouts} rollouts: must be a multiple of {num_models} models'
      )
    deal_key, members_key = jax.random.split(key)
    # dealt[i] is the rollout at place i in the order of members.
    dealt = jax.random.permutation(deal_key, num_rollouts)
    place = jnp.argsort(dealt)

    def deal(x: jax.Array) -> jax.Array:
      return x[dealt].reshape(num_models, -1, *x.shape[1:])

    def gather(x: jax.Array) -> jax.Array:
      return x.reshape(num_rollouts, *x.shape[2:])[place]

    predicted = jax.vmap(dynamics.predict)(
      model,
      *jax.tree.map(deal, (carry, obs, env_action)),
      jax.random.split(members_key, num_models),
    )
    return jax.tree.map(gather, predicted)

  def starts(model: Any, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    assert dynamics.starts is not None
    return dynamics.starts(jax.tree.map(lambda x: x[0], model), key, shape)

  return dynamics._replace(
    start=start,
    predict=predict,
    starts=None if dynamics.starts is None else starts,
  )
