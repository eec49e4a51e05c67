"""The accuracy of models that predict terminations."""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.models import base
from mbmpo_jax.rollouts import buffer as buffer_lib

# Number of transitions of each kind.
_COUNT = 256


def accuracy(
  dynamics: base.Dynamics,
  model: Any,
  buffer: buffer_lib.Buffer,
  key: jax.Array,
) -> jax.Array:
  """The balanced accuracy on transitions of the buffer, mean over members.

  This is the mean of two shares: of terminal transitions that are predicted to
  be terminal, and of other transitions that are predicted not to be. A constant
  prediction gives 0.5, however rare terminations are. If the buffer has only
  one kind of transition, the result is the share of that kind.

  Args:
    dynamics: the model's functions; must predict terminations.
    model: of all members, `[K, ...]`.
    buffer: of transitions.
    key: consumed.
  """
  sample_key, key = jax.random.split(key)
  kind = (buffer.data.terminated > 0).astype(jnp.int32)
  rows, known = buffer_lib.sample_by_task(
    buffer, sample_key, kind, num_tasks=2, count=_COUNT
  )
  obs, action = (x.reshape(-1, x.shape[-1]) for x in (rows.obs, rows.action))

  def member(model: Any, key: jax.Array) -> jax.Array:
    start_key, key = jax.random.split(key)
    carry = dynamics.start(model, start_key, (), obs.shape[0])
    ended = dynamics.predict(model, carry, obs, action, key)[1].terminated
    assert ended is not None
    return ended.reshape(known.shape) == rows.terminated

  num_models = jax.tree.leaves(model)[0].shape[0]
  right = jax.vmap(member)(model, jax.random.split(key, num_models))
  known = known[:, 0]  # whether there are transitions of each kind
  shares = jnp.mean(right, (0, 2)) * known
  return jnp.sum(shares) / jnp.maximum(jnp.sum(known), 1)
