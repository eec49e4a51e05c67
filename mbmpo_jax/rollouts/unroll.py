"""The scan over time: a policy acting in an environment or in a model.

Every step observes, acts, and steps the environment. It then passes the outcome
to the policy's `observe`. Where an episode ended, the policy's carry restarts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.policies import base


class Outcome(NamedTuple):
  """The outcome of one step in N environments."""

  reward: jax.Array | None  # [N]; None if computed after the scan
  next_obs: jax.Array  # [N, O]
  terminated: jax.Array  # [N], 1. where `next_obs` ended an episode
  truncated: jax.Array | None = None  # [N], 1. where a time limit cut it

  @property
  def ended(self) -> jax.Array:
    """1. where an episode ended for either reason, [N]."""
    if self.truncated is None:
      return self.terminated
    return jnp.maximum(self.terminated, self.truncated)


class World(NamedTuple):
  """N environments, or N rollouts in a model, stepped in parallel.

  Attributes:
    observe: state -> obs [N, O].
    step: `(state, env_action [N, A], x) -> (state, Outcome)`, where x is the
      slice of `xs` for this step. If an episode ends and another one follows,
      the returned state is the start of the new episode.
    restarts: whether a new episode follows one that ended.
  """

  observe: Callable[[Any], jax.Array]
  step: Callable[[Any, jax.Array, Any], tuple[Any, Outcome]]
  restarts: bool


class Steps(NamedTuple):
  """The recorded steps, leaves [T, N, ...]."""

  obs: jax.Array | None  # None without `keep_obs`
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
  """Runs a policy in a world for T steps.

  Args:
    policy: chooses the actions, with `policy.act`.
    params: the policy's parameters, possibly transformed by `policy.spread`.
    world: the environments or the model.
    start: the world's initial state, and the policy's initial carry.
    noise: of T steps, from `policy.noise(key, (T, N))`; `None` acts greedily.
    xs: inputs of the world's steps, a tree of arrays `[T, ...]`.
    context: the task's context, for carries that restart.
    restart_keys: `[T, 2]`, for carries that restart; needed if the world
      restarts and the policy has a carry.
    keep_obs: whether observations are recorded. Without them `Steps.obs` is
      `None`; if no episode restarts, they follow from `next_obs`.
    modify: `(action, x) -> action`, replaces actions of the policy.

  Returns:
    The world's state and the carry after T steps, and the recorded steps.

  Raises:
    ValueError: if the policy observes outcomes, but a step has no reward.
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
        raise ValueError('policy: has `observe`: must get a reward per step')
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

  A leaf without the leading axis [N] is shared by all, and stays `current`.
  """

  def select(fresh: jax.Array, current: jax.Array) -> jax.Array:
    if current.shape[:1] != ended.shape:
      return current
    flags = broadcasting.trailing(ended, current.ndim)
    return jnp.where(flags > 0, fresh, current)

  return jax.tree.map(select, fresh, current)
