"""The disagreement of ensemble members on transitions from the data."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.models import base
from mbmpo_jax.models import targets as targets_lib


def along(
  dynamics: base.Dynamics,
  model: Any,
  transitions: types.Transition,
  key: jax.Array,
  *,
  change: targets_lib.Change = targets_lib.difference,
) -> jax.Array:
  """The deviation of members from their mean, relative to the true changes.

  With f_k the change that member k predicts and d the true change of a step,

    sqrt( mean over dimensions of  E[var over k of f_k(s, a)] / var[d] ),

  where expectation and variance are over the transitions. It is 0 if members
  agree, and 1 if they differ as much as the changes do. Dimensions that never
  change are left out.

  Args:
    dynamics: the model's functions.
    model: all members, leaves `[K, ...]`.
    transitions: `[B, ...]`; rows that are not finite are left out.
    key: consumed.
    change: the environment's `(obs, next_obs) -> change`.

  Returns:
    A scalar; 0 if no transition is finite.
  """
  chex.assert_rank([transitions.obs, transitions.action], 2)
  sound = masking.sound_rows(transitions)
  rows = jax.tree.map(
    lambda x: jnp.where(broadcasting.trailing(sound, x.ndim), x, 0), transitions
  )
  weight = sound[:, None].astype(rows.obs.dtype)
  total = jnp.maximum(jnp.sum(weight), 1.0)

  def member(model: Any) -> jax.Array:
    start_key, predict_key = jax.random.split(key)
    carry = dynamics.start(model, start_key, (), rows.obs.shape[0])
    _, predicted = dynamics.predict(
      model, carry, rows.obs, rows.action, predict_key
    )
    return change(rows.obs, predicted.next_obs)

  spread = jnp.var(jax.vmap(member)(model), 0)
  changes = change(rows.obs, rows.next_obs)
  mean = jnp.sum(weight * changes, 0) / total
  variance = jnp.sum(weight * jnp.square(changes - mean[None]), 0) / total
  varies = variance > 0
  ratio = jnp.sum(weight * spread, 0) / total / jnp.where(varies, variance, 1.0)
  count = jnp.maximum(jnp.sum(varies), 1)
  return jnp.sqrt(jnp.sum(jnp.where(varies, ratio, 0.0)) / count)
