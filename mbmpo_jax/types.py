"""Data structures passed between the phases, and protocols of user functions.

Axes, outermost first: ensemble members `K`, tasks per member `P`, time `T`,
rollouts `N`, then features (`O` observation, `A` action). A function documents
only the axes it needs; `jax.vmap` adds the others.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

# A pytree of arrays: policy parameters, model parameters, gradients.
Params = Any
# One scalar per metric name; NaN if the value does not exist yet.
Metrics = dict[str, jax.Array]


class Transition(NamedTuple):
  """A flat batch of real transitions; steps of an episode are consecutive."""

  obs: jax.Array  # [B, O]
  action: jax.Array  # [B, A], as the environment received it, in [-1, 1]
  reward: jax.Array  # [B]
  next_obs: jax.Array  # [B, O]
  terminated: jax.Array  # [B], 1. where `next_obs` ended the episode
  truncated: jax.Array  # [B], 1. where a time limit ended it
  episode: jax.Array  # [B] int32, number of the episode in the whole run
  time: jax.Array  # [B] int32, the step within the episode
  extras: Any = ()  # further data that an algorithm keeps, leaves [B, ...]


class Trajectory(NamedTuple):
  """Real or imagined rollouts, with time as the leading axis."""

  obs: jax.Array  # [T, N, O]
  action: jax.Array  # [T, N, A], the policy's raw action
  env_action: jax.Array  # [T, N, A], as the environment received it
  log_prob: jax.Array  # [T, N], log-probability of `action` when sampled
  reward: jax.Array  # [T, N]
  next_obs: jax.Array  # [T, N, O]
  terminated: jax.Array  # [T, N], 1. where `next_obs` is terminal
  mask: jax.Array  # [T, N], 1. where the rollout was alive before the step
  extras: Any = ()  # the policy's `Action.extras`, leaves [T, N, ...]
  truncated: jax.Array | None = None  # [T, N], 1. at a time limit

  @property
  def ended(self) -> jax.Array:
    """1. where an episode terminated or was truncated, [T, N]."""
    if self.truncated is None:
      return self.terminated
    return jnp.maximum(self.terminated, self.truncated)


class RewardFn(Protocol):
  """A reward function, for any leading batch shape."""

  def __call__(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Maps `[..., O]`, `[..., A]`, `[..., O]` to rewards `[...]`."""
    ...


class DoneFn(Protocol):
  """A termination function, for any leading batch shape."""

  def __call__(self, next_obs: jax.Array) -> jax.Array:
    """Maps `[..., O]` to `[...]`, 1. where the episode ends."""
    ...
