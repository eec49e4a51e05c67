"""A fixed-capacity ring of real transitions that never leaves the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types


class Buffer(NamedTuple):
  """The newest transitions; slots from `size` on hold nothing yet."""

  data: types.Transition  # every leaf [C, ...]
  position: jax.Array  # int32 scalar, the slot written next
  size: jax.Array  # int32 scalar, slots that hold a transition


def init(capacity: int, observation_size: int, action_size: int) -> Buffer:
  """An empty buffer of `capacity` slots."""
  zeros = jnp.zeros(capacity)
  indices = jnp.zeros(capacity, jnp.int32)
  return Buffer(
    data=types.Transition(
      obs=jnp.zeros((capacity, observation_size)),
      action=jnp.zeros((capacity, action_size)),
      reward=zeros,
      next_obs=jnp.zeros((capacity, observation_size)),
      terminated=zeros,
      truncated=zeros,
      episode=indices,
      time=indices,
    ),
    position=jnp.int32(0),
    size=jnp.int32(0),
  )


def add(buffer: Buffer, transitions: types.Transition) -> Buffer:
  """Writes `transitions` [B, ...], the oldest first, over the oldest stored.

  A transition with a number that is not finite, or beyond +-1e10, is left out
  (`masking.sound_rows`): one would spoil the moments of the whole buffer.

  Args:
    buffer: of capacity C.
    transitions: JAX or NumPy arrays; consecutive entries of an episode in
      order, so that histories can be cut from the ring.

  Raises:
    ValueError: if B exceeds C, or a field's shape does not fit.

  Example:
    Three steps of one episode, as NumPy arrays from anywhere:

    >>> import numpy as np
    >>> steps = types.Transition(
    ...   obs=np.zeros((3, 4)),
    ...   action=np.zeros((3, 2)),
    ...   reward=np.ones(3),
    ...   next_obs=np.zeros((3, 4)),
    ...   terminated=np.array([0.0, 0.0, 1.0]),
    ...   truncated=np.zeros(3),
    ...   episode=np.zeros(3, int),
    ...   time=np.arange(3),
    ... )
    >>> ring = init(capacity=5, observation_size=4, action_size=2)
    >>> ring = add(add(ring, steps), steps)
    >>> int(ring.size), int(ring.position)
    (5, 1)
  """
  capacity = buffer.data.reward.shape[0]
  count = transitions.reward.shape[0]
  if count > capacity:
    raise ValueError(
      f'transitions: {count} do not fit a buffer of capacity {capacity}'
    )
  for name, new, stored in zip(
    types.Transition._fields, transitions, buffer.data, strict=True
  ):
    if new.shape != (count, *stored.shape[1:]):
      raise ValueError(
        f'transitions.{name} has shape {list(new.shape)}: must be'
        f' {[count, *stored.shape[1:]]}'
      )
  sound = masking.sound_rows(transitions)
  before = jnp.cumsum(sound, dtype=jnp.int32) - sound
  # Beyond the last slot nothing is written.
  slots = jnp.where(sound, (buffer.position + before) % capacity, capacity)
  written = jnp.sum(sound, dtype=jnp.int32)
  return Buffer(
    data=jax.tree.map(
      lambda stored, new: stored.at[slots].set(new, mode='drop'),
      buffer.data,
      transitions,
    ),
    position=(buffer.position + written) % capacity,
    size=jnp.minimum(buffer.size + written, capacity),
  )


def sample(buffer: Buffer, key: jax.Array, *, count: int) -> types.Transition:
  """`count` transitions drawn uniformly with replacement; consumes `key`.

  The buffer must not be empty.
  """
  slots = jax.random.randint(key, (count,), 0, buffer.size)
  return jax.tree.map(lambda stored: stored[slots], buffer.data)


def mask(buffer: Buffer) -> jax.Array:
  """1. where a slot [C] holds a transition."""
  capacity = buffer.data.reward.shape[0]
  return (jnp.arange(capacity) < buffer.size).astype(buffer.data.reward.dtype)
