"""A policy that reads the last W transitions of its episode, as a set.

The carry holds these transitions, and the noise of a latent, which is drawn
once per episode. The wrapped policy has no memory: its input is a `Seen`, which
holds observation, transitions and noise. A critic may read the same input, so
that stored steps can be evaluated in any order.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.policies import base


class Memory(NamedTuple):
  """The memory of an episode; both the carry and the extras of an action."""

  # x = [s, a] and y = [r, s' - s], leaves [..., W, ...].
  points: sets.Points
  noise: jax.Array  # [..., Z], standard normal


class Seen(NamedTuple):
  """The inputs of policy and critic at a step."""

  obs: jax.Array  # [..., O]
  memory: Memory


def empty(
  num: int, observation_size: int, action_size: int, window: int
) -> sets.Points:
  """The empty memory [num, W] of `num` episodes that begin."""
  return sets.Points(
    jnp.zeros((num, window, observation_size + action_size)),
    jnp.zeros((num, window, 1 + observation_size)),
    jnp.zeros((num, window)),
  )


def point(
  obs: jax.Array, action: jax.Array, reward: jax.Array, next_obs: jax.Array
) -> sets.Points:
  """Transitions as points, with x = [s, a] and y = [r, s' - s].

  Args:
    obs: `[..., O]`.
    action: `[..., A]`, as the environment received it.
    reward: `[...]`.
    next_obs: `[..., O]`.
  """
  return sets.Points(
    jnp.concatenate([obs, action], -1),
    jnp.concatenate([reward[..., None], next_obs - obs], -1),
    jnp.ones_like(reward),
  )


def push(points: sets.Points, new: sets.Points) -> sets.Points:
  """`points` [..., W] without the oldest one, and with `new` [...] appended."""
  axis = new.mask.ndim

  def shift(past: jax.Array, new: jax.Array) -> jax.Array:
    kept = jax.lax.slice_in_dim(past, 1, past.shape[axis], axis=axis)
    return jnp.concatenate([kept, jnp.expand_dims(new, axis)], axis)

  return jax.tree.map(shift, points, new)


def seen(trajectory: types.Trajectory) -> types.Trajectory:
  """The trajectory with `Seen` as `obs` and `next_obs`, without extras.

  Args:
    trajectory: `[T, N, ...]`, sampled by a policy of `remembering`.
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
  """The policy with a memory of W transitions, around a memoryless policy.

  `start` takes initial transitions (`sets.Points` [W]) as context, or (). The
  extras of an action are the `Memory`, so that it is part of the trajectory.

  Args:
    policy: memoryless, with `Seen` as observations.
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
