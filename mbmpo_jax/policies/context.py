"""A policy that reads the last W transitions of its episode, as a set.

The carry holds these transitions, and the noise of a latent, which is drawn
once per episode. The wrapped policy has no memory: its input is a `Seen`, which
holds observation, transitions and noise. A critic may read the same input, so
that stored steps can be evaluated in any order.

Transitions are normalised when they are remembered. If the moments change in
the middle of an episode, its next W steps have windows of both normalisations,
in acting and in learning alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.policies import base
from mbmpo_jax.policies import normalized
from mbmpo_jax.rollouts import windows


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


class Reading(NamedTuple):
  """How networks read observations, normalised or not.

  Attributes:
    change: the environment's `(obs, next_obs) -> change`, which takes angles by
      the shorter way.
    normalize: whether observations are normalised by the moments in the
      policy's parameters, and changes divided by their deviations.
  """

  change: Callable[[jax.Array, jax.Array], jax.Array]
  normalize: bool = False

  def moments(self, params: types.Params) -> Any:
    """`normalized.Moments`, or () if nothing is normalised."""
    return params.moments if self.normalize else ()

  def inner(self, params: types.Params) -> types.Params:
    """The parameters of the networks."""
    return params.policy if self.normalize else params

  def obs(self, moments: Any, obs: jax.Array) -> jax.Array:
    """Observations [..., O] as the networks read them."""
    return normalized.normalize(moments, obs) if self.normalize else obs

  def point(
    self,
    moments: Any,
    obs: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    next_obs: jax.Array,
  ) -> sets.Points:
    """Transitions as points, with x = [s, a] and y = [r, s' - s].

    Args:
      moments: of observations, or ().
      obs: `[..., O]`, as observed.
      action: `[..., A]`, as the environment received it.
      reward: `[...]`.
      next_obs: `[..., O]`, as observed.
    """
    change = self.change(obs, next_obs)
    if self.normalize:
      change = normalized.scale(moments, change)
    return sets.Points(
      jnp.concatenate([self.obs(moments, obs), action], -1),
      jnp.concatenate([reward[..., None], change], -1),
      jnp.ones_like(reward),
    )

  def seen(
    self, moments: Any, trajectory: types.Trajectory
  ) -> types.Trajectory:
    """The trajectory with `Seen` as `obs` and `next_obs`, without extras.

    Args:
      moments: of observations, or ().
      trajectory: `[T, N, ...]`, as observed, sampled by a policy of
        `remembering`.
    """
    memory = trajectory.extras
    new = self.point(
      moments,
      trajectory.obs,
      trajectory.env_action,
      trajectory.reward,
      trajectory.next_obs,
    )
    then = memory._replace(points=push(memory.points, new))
    obs: Any = Seen(self.obs(moments, trajectory.obs), memory)
    next_obs: Any = Seen(self.obs(moments, trajectory.next_obs), then)
    return trajectory._replace(obs=obs, next_obs=next_obs, extras=())


def push(points: sets.Points, new: sets.Points) -> sets.Points:
  """`points` [..., W] without the oldest one, and with `new` [...] appended."""
  return windows.shifted(points, new, axis=new.mask.ndim)


def remembering(
  policy: base.Policy,
  reading: Reading,
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
    reading: how it reads observations; if they are normalised, the parameters
      are `normalized.Params`.
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

  def init(key: jax.Array) -> normalized.Params:
    return normalized.Params(
      policy.init(key), normalized.start(observation_size)
    )

  def see(params: types.Params, carry: Memory, obs: jax.Array) -> Any:
    return Seen(reading.obs(reading.moments(params), obs), carry)

  def act(
    params: types.Params, carry: Memory, obs: jax.Array, noise: Any
  ) -> tuple[Memory, base.Action]:
    seen = see(params, carry, obs)
    _, action = policy.act(reading.inner(params), (), seen, noise)
    return carry, action._replace(extras=carry)

  def distribution(params: types.Params, carry: Memory, obs: jax.Array) -> Any:
    assert policy.distribution is not None
    seen = see(params, carry, obs)
    return policy.distribution(reading.inner(params), (), seen)

  def over(params: types.Params, trajectory: types.Trajectory) -> Any:
    assert policy.over is not None
    seen = reading.seen(reading.moments(params), trajectory)
    return policy.over(reading.inner(params), seen)

  def observe(
    params: types.Params, carry: Memory, step: base.Experience
  ) -> Memory:
    new = reading.point(
      reading.moments(params),
      step.obs,
      step.action,
      step.reward,
      step.next_obs,
    )
    return carry._replace(points=push(carry.points, new))

  made = policy
  if reading.normalize:
    made = policy._replace(init=init, spread=normalized.spread(policy))
  return made._replace(
    start=start,
    act=act,
    distribution=distribution,
    over=over,
    observe=observe,
  )
