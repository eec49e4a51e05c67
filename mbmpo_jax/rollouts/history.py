"""The last L steps of an episode, as inputs of networks with a memory.

  h_t = ((o, a, r)_{t-L}, ..., (o, a, r)_{t-1})

Histories are right-aligned, the newest step last. At an episode's start the
missing steps are zero and their mask is 0. The history includes rewards,
because tasks may differ in the reward only, such as a direction of movement
(Hiraoka et al. 2021 leave rewards out of their text).
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import windows


class Window(NamedTuple):
  """Histories of L steps, oldest first, zero where the mask is 0."""

  obs: jax.Array  # [..., L, O]
  action: jax.Array  # [..., L, A]
  reward: jax.Array  # [..., L]
  mask: jax.Array  # [..., L], 1. where there is a step

  @property
  def features(self) -> jax.Array:
    """[o, a, r], `[..., L, O + A + 1]`."""
    return jnp.concatenate([self.obs, self.action, self.reward[..., None]], -1)


class Seen(NamedTuple):
  """The inputs of a network: an observation and the history before it."""

  obs: jax.Array  # [..., O]
  window: Any  # a `Window` [...], or () where L is 0


def transitions(seen: Seen) -> tuple[jax.Array, jax.Array]:
  """The steps of a history as transitions (o, a, r, o').

  The steps are consecutive: o' of a step is o of the next one, and o' of the
  newest step is the current observation.

  Args:
    seen: an observation and the history before it, L > 0.

  Returns:
    `[..., L, 2 O + A + 1]`, and the mask `[..., L]`. Rows whose mask is 0 may
    hold anything.
  """
  obs, window = seen
  chex.assert_equal_shape([window.obs[..., 0, :], obs])
  later = jnp.concatenate([window.obs[..., 1:, :], obs[..., None, :]], -2)
  return jnp.concatenate([window.features, later], -1), window.mask


def empty(
  num: int, observation_size: int, action_size: int, *, length: int
) -> Any:
  """The histories of `num` episodes at their start; () if `length` L is 0.

  Example:
    >>> window = empty(4, observation_size=3, action_size=2, length=5)
    >>> window.features.shape, float(window.mask.sum())
    ((4, 5, 6), 0.0)
  """
  if not length:
    return ()
  return Window(
    obs=jnp.zeros((num, length, observation_size)),
    action=jnp.zeros((num, length, action_size)),
    reward=jnp.zeros((num, length)),
    mask=jnp.zeros((num, length)),
  )


def push(
  window: Any, obs: jax.Array, action: jax.Array, reward: jax.Array
) -> Any:
  """The histories one step later, with a new step in place of the oldest.

  Args:
    window: `[..., L]`; () is returned unchanged.
    obs: `[..., O]`, the observation before the step.
    action: `[..., A]`, as the environment received it.
    reward: `[...]`.
  """
  if isinstance(window, tuple) and not window:
    return window
  chex.assert_equal_shape([window.reward[..., 0], reward])
  new = Window(obs, action, reward, jnp.ones_like(reward))
  return windows.shifted(window, new, axis=reward.ndim)


def stored(
  buffer: buffer_lib.Buffer,
  slots: jax.Array,
  *,
  length: int,
  num_envs: int = 1,
) -> Any:
  """The histories before the rows in `slots` [B]; () if L is 0.

  Args:
    buffer: of real transitions.
    slots: slots that hold a row.
    length: L.
    num_envs: number of environments whose steps alternate in the buffer.
  """
  if not length:
    return ()
  rows, mask = windows.before(buffer, slots, length=length, num_envs=num_envs)
  return Window(rows.obs, rows.action, rows.reward, mask)


def along(start: Any, trajectory: types.Trajectory) -> Any:
  """The history before each step of a trajectory.

  Args:
    start: the histories before the first step, `[N, L]`; () is returned
      unchanged.
    trajectory: `[T, N, ...]`; the history is empty after an episode's end.

  Returns:
    A `Window` [T, N].
  """
  if isinstance(start, tuple) and not start:
    return start
  length, steps = start.mask.shape[1], trajectory.reward.shape[0]
  taken = Window(
    trajectory.obs,
    trajectory.env_action,
    trajectory.reward,
    jnp.ones_like(trajectory.reward),
  )
  places = jnp.arange(steps)[:, None] + jnp.arange(length)[None]  # [T, L]

  def cut(first: jax.Array, then: jax.Array) -> jax.Array:
    line = jnp.concatenate([jnp.moveaxis(first, 1, 0), then])  # [L + T, N]
    return jnp.moveaxis(line[places], 1, 2)

  window = jax.tree.map(cut, start, taken)
  # Steps since the episode began; the first one may have begun in `start`.
  since = episodes.time(trajectory.ended)
  since = jnp.where(episodes.before(trajectory.ended) == 0, length, since)
  back = jnp.arange(length, 0, -1)
  known = (back[None, None] <= since[..., None]) & (window.mask > 0)

  def live(x: jax.Array) -> jax.Array:
    return jnp.where(broadcasting.trailing(known, x.ndim), x, 0.0)

  return jax.tree.map(live, window)
