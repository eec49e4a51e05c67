"""Minibatches of real transitions, each with the preceding context."""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.sac import learner as sac
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history


def sample(
  state: Any,
  key: jax.Array,
  *,
  section: off_policy_config.Learn,
  length: int,
  num_envs: int = 1,
) -> tuple[sac.Batch, jax.Array]:
  """The minibatches of a round, and whether there are enough data for them.

  Args:
    state: with `buffer` and `moments`.
    key: consumed.
    section: gives the number G and size B of minibatches.
    length: W.
    num_envs: number of environments whose steps alternate in the buffer.

  Returns:
    Leaves `[G, B, ...]`, where `inputs` are a `history.Seen` and `next_inputs`
    the following observations; and a bool scalar.
  """
  buffer = state.buffer
  chosen = spread(
    key, buffer.size, (section.num_updates, section.batch_size)
  ).reshape(-1)
  data = buffer_lib.rows_at(buffer, chosen)
  seen = history.Seen(
    data.obs, history.stored(buffer, chosen, length=length, num_envs=num_envs)
  )
  batch = sac.Batch(
    inputs=inputs.read(state.moments, seen),
    action=data.action,
    reward=data.reward,
    next_inputs=inputs.read(state.moments, data.next_obs),
    terminated=data.terminated,
  )
  shape = (section.num_updates, section.batch_size)
  batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), batch)
  return batches, buffer.size >= section.batch_size


def spread(
  key: jax.Array, size: jax.Array, shape: tuple[int, int]
) -> jax.Array:
  """Slots of G minibatches that are spread evenly over the data, `[G, B]`.

  The ring is split into B equal parts, and a minibatch takes a row of each. The
  number of rows from an episode, and so from a task, is therefore proportional
  to its length. The sizes of parts differ by at most one row.

  Args:
    key: consumed.
    size: number of rows stored, int32 [].
    shape: G and B.

  Example:
    >>> spread(jax.random.PRNGKey(0), jnp.int32(3), (2, 3)).tolist()
    [[0, 1, 2], [0, 1, 2]]
  """
  per_share, rest = jnp.divmod(size, shape[1])
  index = jnp.arange(shape[1], dtype=jnp.int32)
  first = index * per_share + jnp.minimum(index, rest)
  width = per_share + (index < rest).astype(jnp.int32)
  first, width = (jnp.broadcast_to(x[None], shape) for x in (first, width))
  return first + jax.random.randint(key, shape, 0, jnp.maximum(width, 1))
