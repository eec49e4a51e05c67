"""Where episodes begin and end within rollouts that go on after an ending.

Everything follows from `terminated` [T, N], 1. where a step ended an episode.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sums(NamedTuple):
  """Sums over the steps of episodes."""

  reward: jax.Array
  length: jax.Array


def before(terminated: jax.Array) -> jax.Array:
  """Episodes ended before each step, [T, N], of the type of `terminated`."""
  return jnp.cumsum(terminated, axis=0, dtype=terminated.dtype) - terminated


def time(terminated: jax.Array) -> jax.Array:
  """Steps since the episode that a step belongs to began, int32 [T, N]."""
  steps = jnp.arange(terminated.shape[0], dtype=jnp.int32)[:, None]
  began = jnp.where(terminated > 0, steps + 1, 0)
  began = jnp.concatenate([jnp.zeros_like(began[:1]), began[:-1]])
  return steps - jax.lax.cummax(began, axis=0)


def complete(terminated: jax.Array) -> jax.Array:
  """Whether a step is of a complete episode, bool [T, N].

  Complete are those that terminated, and those that ran from a reset at the
  first step to the last.
  """
  total = jnp.sum(terminated, axis=0)[None]
  return (before(terminated) < total) | (total == 0)


def mean(x: jax.Array, terminated: jax.Array) -> jax.Array:
  """The sum of `x` [T, N] over an episode, meaned over complete ones.

  The last episode of a rollout that has ended before is cut by the horizon and
  does not count. Longer episodes are cut more often, so that where some end and
  others last, the mean leans towards the short ones.
  """
  episodes = jnp.sum(jnp.maximum(jnp.sum(terminated, axis=0), 1))
  return jnp.sum(jnp.where(complete(terminated), x, 0.0)) / episodes


def start(num_envs: int) -> Sums:
  """Of the episodes of N environments that have not begun, `[N]`."""
  return Sums(*(jnp.zeros(num_envs) for _ in range(2)))


def finished(
  unfinished: Sums, reward: jax.Array, ended: jax.Array
) -> tuple[Sums, Sums]:
  """Returns and lengths of episodes that may have begun in a rollout before.

  Args:
    unfinished: of the episodes under way before the first step, `[N]`.
    reward: `[T, N]`.
    ended: `[T, N]`, 1. where a step ended an episode.

  Returns:
    The same after the last step; and of the episode that each step ended,
    `[T, N]`, NaN where it ended none.

  Example:
    >>> ones = jnp.ones((5, 1))
    >>> ended = jnp.array([0.0, 1.0, 0.0, 0.0, 1.0])[:, None]
    >>> unfinished, done = finished(start(1), ones, ended)
    >>> done.length[:, 0].tolist(), unfinished.length.tolist()
    ([nan, 2.0, nan, nan, 3.0], [0.0])
  """

  def step(sums: Sums, x: tuple[jax.Array, jax.Array]) -> tuple[Sums, Sums]:
    reward, ended = x
    sums = Sums(sums.reward + reward, sums.length + 1)
    done = jax.tree.map(lambda x: jnp.where(ended > 0, x, jnp.nan), sums)
    return jax.tree.map(lambda x: jnp.where(ended > 0, 0.0, x), sums), done

  return jax.lax.scan(step, unfinished, (reward, ended))
