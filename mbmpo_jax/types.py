"""The data that flows between the stages, and the functions users provide.

Axes, outermost first: members `K`, tasks per member `P`, time `T`, rollouts
`N`, then features (`O` observation, `A` action). A function documents only the
axes it needs; `jax.vmap` adds the others.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

# A pytree of arrays: policy parameters, model parameters, gradients.
Params = Any
# One value per metric name; scalars, NaN where a value does not exist yet.
Metrics = dict[str, jax.Array]


class Transition(NamedTuple):
  """Real transitions, flat; consecutive entries of an episode stay in order."""

  obs: jax.Array  # [B, O]
  action: jax.Array  # [B, A], what reached the environment, in [-1, 1]
  reward: jax.Array  # [B]
  next_obs: jax.Array  # [B, O]
  terminated: jax.Array  # [B], 1. where `next_obs` ended the episode
  truncated: jax.Array  # [B], 1. where a time limit did
  episode: jax.Array  # [B] int32, counts episodes over the whole run
  time: jax.Array  # [B] int32, the step within the episode
  extras: Any = ()  # what else an algorithm keeps of a step, leaves [B, ...]


class Trajectory(NamedTuple):
  """Rollouts, time-major; real or imagined."""

  obs: jax.Array  # [T, N, O]
  action: jax.Array  # [T, N, A], the policy's raw action
  env_action: jax.Array  # [T, N, A], what reached the world
  log_prob: jax.Array  # [T, N], of `action` as it was sampled
  reward: jax.Array  # [T, N]
  next_obs: jax.Array  # [T, N, O]
  terminated: jax.Array  # [T, N], 1. where `next_obs` is terminal
  mask: jax.Array  # [T, N], 1. where the rollout was alive before the step
  extras: Any = ()  # the policy's `Action.extras`, leaves [T, N, ...]
  truncated: jax.Array | None = None  # [T, N], 1. where a time limit cut it

  @property
  def ended(self) -> jax.Array:
    """1. where an episode ended, for either reason, [T, N]."""
    if self.truncated is None:
      return self.terminated
    return jnp.maximum(self.terminated, self.truncated)


class RewardFn(Protocol):
  """The task's reward, for any leading batch shape."""

  def __call__(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Maps `[..., O]`, `[..., A]`, `[..., O]` to rewards `[...]`."""
    ...


class DoneFn(Protocol):
  """Whether an observation is terminal, for any leading batch shape."""

  def __call__(self, next_obs: jax.Array) -> jax.Array:
    """Maps `[..., O]` to `[...]`, 1. where the episode ends."""
    ...
