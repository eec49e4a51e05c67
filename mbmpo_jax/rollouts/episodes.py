"""Beginnings and ends of episodes within rollouts of several episodes.

All functions use `terminated` [T, N], which is 1. where a step ended an
episode.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sums(NamedTuple):
  """Sums over the steps of an episode."""

  reward: jax.Array
  length: jax.Array


def before(terminated: jax.Array) -> jax.Array:
  """Number of episodes that ended before each step, [T, N]; same dtype."""
  return jnp.cumsum(terminated, axis=0, dtype=terminated.dtype) - terminated


def time(terminated: jax.Array) -> jax.Array:
  """Number of steps since the step's episode began, int32 [T, N]."""
  steps = jnp.arange(terminated.shape[0], dtype=jnp.int32)[:, None]
  began = jnp.where(terminated > 0, steps + 1, 0)
  began = jnp.concatenate([jnp.zeros_like(began[:1]), began[:-1]])
  return steps - jax.lax.cummax(began, axis=0)


def complete(terminated: jax.Array) -> jax.Array:
  """Whether a step belongs to a complete episode, bool [T, N].

  An episode is complete if it terminated, or if it began at the rollout's first
  step and lasts until the last one.
  """
  total = jnp.sum(terminated, axis=0)[None]
  return (before(terminated) < total) | (total == 0)


def mean(x: jax.Array, terminated: jax.Array) -> jax.Array:
  """The sum of `x` [T, N] over an episode, averaged over complete episodes.

  The last episode of a rollout with several episodes is cut by the horizon and
  is not counted. Long episodes are cut more often, so the mean is biased
  towards short episodes if only some episodes terminate.
  """
  episodes = jnp.sum(jnp.maximum(jnp.sum(terminated, axis=0), 1))
  return jnp.sum(jnp.where(complete(terminated), x, 0.0)) / episodes


def start(num_envs: int) -> Sums:
  """The sums at the start of an episode in each of N environments, `[N]`."""
  return Sums(*(jnp.zeros(num_envs) for _ in range(2)))


def finished(
  unfinished: Sums, reward: jax.Array, ended: jax.Array
) -> tuple[Sums, Sums]:
  """Returns and lengths of episodes that may have begun in earlier rollouts.

  Args:
    unfinished: sums over the episodes that are under way, `[N]`.
    reward: `[T, N]`.
    ended: `[T, N]`, 1. where a step ended an episode.

  Returns:
    The sums of unfinished episodes after the last step, `[N]`; and at each step
    that ended an episode the sums over that episode, `[T, N]`, NaN elsewhere.

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
