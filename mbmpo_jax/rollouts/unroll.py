"""The one scan over time: a policy acting in a world, real or imagined.

A step: observe the world, act, step the world, tell the policy what came of it,
and where an episode ended begin the next one with a fresh memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.policies import base


class Outcome(NamedTuple):
  """What N worlds say of one step."""

  reward: jax.Array | None  # [N]; None: it is computed after the scan
  next_obs: jax.Array  # [N, O]
  terminated: jax.Array  # [N], 1. where `next_obs` ended an episode
  truncated: jax.Array | None = None  # [N], 1. where a time limit did

  @property
  def ended(self) -> jax.Array:
    """1. where an episode ended, for either reason, [N]."""
    if self.truncated is None:
      return self.terminated
    return jnp.maximum(self.terminated, self.truncated)


class World(NamedTuple):
  """N worlds side by side.

  Attributes:
    observe: state -> obs [N, O].
    step: `(state, env_action [N, A], x) -> (state, Outcome)`, with what is
      given for this step (`xs`). Where an episode ends and another follows, the
      state returned is at the start of that one.
    restarts: whether another episode follows one that ended.
  """

  observe: Callable[[Any], jax.Array]
  step: Callable[[Any, jax.Array, Any], tuple[Any, Outcome]]
  restarts: bool


class Steps(NamedTuple):
  """What happened, leaves [T, N, ...]."""

  obs: jax.Array | None  # None where they were not to be kept
  action: base.Action
  outcome: Outcome


def unroll(
  policy: base.Policy,
  params: types.Params,
  world: World,
  start: tuple[Any, Any],
  noise: Any,
  xs: Any,
  *,
  context: Any = (),
  restart_keys: jax.Array | None = None,
  keep_obs: bool = True,
  modify: Callable[[base.Action, Any], base.Action] | None = None,
) -> tuple[tuple[Any, Any], Steps]:
  """Lets a policy act in a world for T steps.

  Args:
    policy: it acts by `policy.act`.
    params: of the policy, as `policy.spread` may have prepared them.
    world: what it acts in.
    start: the world's state, and the policy's carry.
    noise: of T steps, from `policy.noise(key, (T, N))`; `None` acts greedily.
    xs: what the world is given, a tree of arrays `[T, ...]`.
    context: of the task, for carries that begin anew.
    restart_keys: `[T, 2]`, for the same; needed where the world restarts and
      the policy has a memory.
    keep_obs: whether the observations are kept; otherwise `Steps.obs` is
      `None`, as they follow from `next_obs` where no episode restarts.
    modify: `(action, x) -> action`, for actions that are not the policy's own.

  Returns:
    The world's state and the carry after T steps, and the steps.
  """
  observed = jax.tree.leaves(jax.eval_shape(world.observe, start[0]))
  num_rollouts = observed[0].shape[0]
  remembers = bool(jax.tree.leaves(start[1]))

  def step(state: tuple[Any, Any], inputs: Any) -> tuple[Any, Steps]:
    world_state, carry = state
    noise_t, x, restart_key = inputs
    obs = world.observe(world_state)
    carry, action = policy.act(params, carry, obs, noise_t)
    if modify is not None:
      action = modify(action, x)
    world_state, outcome = world.step(world_state, action.env, x)
    if policy.observe is not None:
      if outcome.reward is None:
        raise ValueError('a policy that observes needs the reward of each step')
      carry = policy.observe(
        params,
        carry,
        base.Experience(
          obs,
          action.env,
          outcome.reward,
          outcome.next_obs,
          outcome.terminated,
        ),
      )
    if world.restarts and remembers:
      fresh = policy.start(params, restart_key, context, num_rollouts)
      carry = where_ended(outcome.ended, fresh, carry)
    return (world_state, carry), Steps(
      obs if keep_obs else None, action, outcome
    )

  return jax.lax.scan(step, start, (noise, xs, restart_keys))


def where_ended(ended: jax.Array, fresh: Any, current: Any) -> Any:
  """`fresh` where `ended` [N] is 1, else `current`; leaves [N, ...].

  A leaf that does not lead with [N] is shared by all, and stays.
  """

  def select(fresh: jax.Array, current: jax.Array) -> jax.Array:
    if current.shape[:1] != ended.shape:
      return current
    flags = broadcasting.trailing(ended, current.ndim)
    return jnp.where(flags > 0, fresh, current)

  return jax.tree.map(select, fresh, current)
