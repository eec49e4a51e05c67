"""Transitions with histories, real or imagined, as M3PO stores them.

A row is stored as one vector of L (O + A + 2) + 2 O + A + 2 numbers, so that
one scatter writes many rows.
"""

from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp

from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history


class Row(NamedTuple):
  """Transitions with histories, as they are stored, leaves `[B, ...]`."""

  seen: history.Seen  # the observation and its history, not normalised
  action: jax.Array  # [B, A], environment actions
  reward: jax.Array  # [B]
  next_obs: jax.Array  # [B, O]
  terminated: jax.Array  # [B]


def example(env: envs_base.Environment, length: int) -> Row:
  """A row of zeros without the axis [B]; the history has L steps."""
  obs, number = jnp.zeros(env.observation_size), jnp.zeros(())
  window = history.empty(
    1, env.observation_size, env.action_size, length=length
  )
  return Row(
    seen=history.Seen(obs, jax.tree.map(lambda x: x[0], window)),
    action=jnp.zeros(env.action_size),
    reward=number,
    next_obs=obs,
    terminated=number,
  )


def row_size(env: envs_base.Environment, length: int) -> int:
  """W, the number of numbers in a row."""
  return sum(leaf.size for leaf in jax.tree.leaves(example(env, length)))


def flatten(rows: Row) -> jax.Array:
  """Rows [B] as vectors [B, W]."""
  return jax.vmap(lambda row: jax.flatten_util.ravel_pytree(row)[0])(rows)


def unflatten(env: envs_base.Environment, length: int, flat: jax.Array) -> Row:
  """Vectors `[..., W]` as rows `[...]`."""
  _, unravel = jax.flatten_util.ravel_pytree(example(env, length))
  rows = jax.vmap(unravel)(flat.reshape(-1, flat.shape[-1]))
  shape = flat.shape[:-1]
  return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), rows)


def real_rows(
  buffer: buffer_lib.Buffer,
  slots: jax.Array,
  *,
  length: int,
  num_envs: int = 1,
) -> Row:
  """The real transitions in `slots` [B], with their histories."""
  data = buffer.data
  window = history.stored(buffer, slots, length=length, num_envs=num_envs)
  return Row(
    seen=history.Seen(data.obs[slots], window),
    action=data.action[slots],
    reward=data.reward[slots],
    next_obs=data.next_obs[slots],
    terminated=data.terminated[slots],
  )
