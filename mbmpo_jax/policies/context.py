"""A policy that reads the last W transitions of its episode, as a set.

The carry holds them, and noise for a latent, which is drawn once per episode.
The policy behind it is without memory: it sees all three as a `Seen`, and so
may a critic, so that steps can be judged again in any order.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.policies import base


class Memory(NamedTuple):
  """What is remembered of an episode; carry and extras."""

  # x = [s, a] and y = [r, s' - s], leaves [..., W, ...].
  points: sets.Points
  noise: jax.Array  # [..., Z], standard normal


class Seen(NamedTuple):
  """What networks see at a step."""

  obs: jax.Array  # [..., O]
  memory: Memory


def empty(
  num: int, observation_size: int, action_size: int, window: int
) -> sets.Points:
  """The points [num, W] of episodes that begin."""
  return sets.Points(
    jnp.zeros((num, window, observation_size + action_size)),
    jnp.zeros((num, window, 1 + observation_size)),
    jnp.zeros((num, window)),
  )


def point(
  obs: jax.Array, action: jax.Array, reward: jax.Array, next_obs: jax.Array
) -> sets.Points:
  """The points of transitions.

  Args:
    obs: `[..., O]`.
    action: `[..., A]`, what reached the world.
    reward: `[...]`.
    next_obs: `[..., O]`.
  """
  return sets.Points(
    jnp.concatenate([obs, action], -1),
    jnp.concatenate([reward[..., None], next_obs - obs], -1),
    jnp.ones_like(reward),
  )


def push(points: sets.Points, new: sets.Points) -> sets.Points:
  """`points` [..., W] with `new` [...] in place of the oldest."""
  axis = new.mask.ndim

  def shift(past: jax.Array, new: jax.Array) -> jax.Array:
    kept = jax.lax.slice_in_dim(past, 1, past.shape[axis], axis=axis)
    return jnp.concatenate([kept, jnp.expand_dims(new, axis)], axis)

  return jax.tree.map(shift, points, new)


def seen(trajectory: types.Trajectory) -> types.Trajectory:
  """What networks saw: `obs` and `next_obs` are `Seen`, there are no extras.

  Args:
    trajectory: `[T, N, ...]`, of `remembering`.
  """
  memory = trajectory.extras
  new = point(
    trajectory.obs,
    trajectory.env_action,
    trajectory.reward,
    trajectory.next_obs,
  )
  then = memory._replace(points=push(memory.points, new))
  obs: Any = Seen(trajectory.obs, memory)
  next_obs: Any = Seen(trajectory.next_obs, then)
  return trajectory._replace(obs=obs, next_obs=next_obs, extras=())


def remembering(
  policy: base.Policy,
  observation_size: int,
  action_size: int,
  *,
  window: int,
  latent_size: int,
) -> base.Policy:
  """`policy`, given what it remembers; `start` takes a context of its points.

  `Action.extras` are the `Memory`, so that a trajectory knows it.

  Args:
    policy: without memory, over `Seen`.
    observation_size: O.
    action_size: A.
    window: W.
    latent_size: Z.
  """

  def start(
    params: types.Params, key: jax.Array, context: Any, num: int
  ) -> Memory:
    del params
    points = empty(num, observation_size, action_size, window)
    if isinstance(context, sets.Points):
      points = jax.tree.map(
        lambda x, like: jnp.broadcast_to(x[None], like.shape), context, points
      )
    return Memory(points, jax.random.normal(key, (num, latent_size)))

  def act(
    params: types.Params, carry: Memory, obs: jax.Array, noise: Any
  ) -> tuple[Memory, base.Action]:
    _, action = policy.act(params, (), Seen(obs, carry), noise)
    return carry, action._replace(extras=carry)

  def distribution(params: types.Params, carry: Memory, obs: jax.Array) -> Any:
    assert policy.distribution is not None
    return policy.distribution(params, (), Seen(obs, carry))

  def over(params: types.Params, trajectory: types.Trajectory) -> Any:
    assert policy.over is not None
    return policy.over(params, seen(trajectory))

  def observe(
    params: types.Params, carry: Memory, step: base.Experience
  ) -> Memory:
    del params
    new = point(step.obs, step.action, step.reward, step.next_obs)
    return carry._replace(points=push(carry.points, new))

  return policy._replace(
    start=start,
    act=act,
    distribution=distribution,
    over=over,
    observe=observe,
  )
