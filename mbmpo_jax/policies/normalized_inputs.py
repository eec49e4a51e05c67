"""Inputs of networks, normalised where a network reads them.

Inputs are observations, and histories of observations and rewards. Unlike in
`normalized.py`, the memory of a policy keeps them as they are. A dynamics model
may read the same memory, and stored steps remain valid when the moments change.
The moments are those of all real transitions so far.
"""

from typing import Any, NamedTuple

import jax

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.policies import base
from mbmpo_jax.policies import normalized
from mbmpo_jax.rollouts import history


class InputMoments(NamedTuple):
  """Running moments of all transitions so far."""

  obs: normalized.Moments  # [O]
  reward: normalized.Moments  # [1]


def start(observation_size: int) -> InputMoments:
  """The moments before any transition, which change nothing."""
  return InputMoments(normalized.start(observation_size), normalized.start(1))


def update(
  moments: InputMoments, obs: jax.Array, reward: jax.Array, mask: jax.Array
) -> InputMoments:
  """The moments after further transitions.

  Args:
    moments: of all earlier transitions.
    obs: `[..., O]`.
    reward: `[...]`.
    mask: `[...]`, 1. where a transition counts.
  """
  return InputMoments(
    normalized.update(moments.obs, obs, mask),
    normalized.update(moments.reward, reward[..., None], mask),
  )


def normalize(moments: InputMoments, inputs: Any) -> Any:
  """The inputs of a network, normalised.

  Args:
    moments: of transitions.
    inputs: observations `[..., O]`, or observations with their histories.

  Example:
    >>> import jax.numpy as jnp
    >>> moments = update(
    ...   start(1),
    ...   jnp.array([[1.0], [5.0]]),
    ...   jnp.array([0.0, 4.0]),
    ...   jnp.ones(2),
    ... )
    >>> normalize(moments, jnp.array([[5.0], [4.0]])).tolist()
    [[1.0], [0.5]]
  """
  if isinstance(inputs, history.Seen):
    return history.Seen(
      normalized.normalize(moments.obs, inputs.obs),
      normalize_memory(moments, inputs.window),
    )
  return normalized.normalize(moments.obs, inputs)


def normalize_memory(moments: InputMoments, memory: Any) -> Any:
  """A policy's memory with every `history.Window` in it normalised."""

  def convert(x: Any) -> Any:
    if not isinstance(x, history.Window):
      return x
    reward = normalized.normalize(moments.reward, x.reward[..., None])
    return x._replace(
      obs=masking.live(normalized.normalize(moments.obs, x.obs), x.mask),
      reward=masking.live(reward[..., 0], x.mask),
    )

  return jax.tree.map(
    convert, memory, is_leaf=lambda x: isinstance(x, history.Window)
  )


def make(policy: base.Policy, observation_size: int) -> base.Policy:
  """`policy` with normalised inputs; its parameters are `normalized.Params`.

  Args:
    policy: its memory, if any, consists of `history.Window`s, and `act` leaves
      it unchanged.
    observation_size: O.

  Example:
    >>> import jax.numpy as jnp
    >>> from mbmpo_jax.policies import history as remembering
    >>> inner = remembering.make(remembering.Gaussian(2, (8,)), 3, 2, length=4)
    >>> policy = make(inner, observation_size=3)
    >>> params = policy.init(jax.random.PRNGKey(0))
    >>> carry = policy.start(params, jax.random.PRNGKey(1), (), 5)
    >>> carry, action = policy.act(params, carry, jnp.zeros((5, 3)), None)
    >>> action.env.shape
    (5, 2)
  """

  def init(key: jax.Array) -> normalized.Params:
    return normalized.Params(policy.init(key), start(observation_size))

  def begin(params: Any, key: Any, context: Any, num: int) -> Any:
    return policy.start(params.policy, key, context, num)

  def act(
    params: Any, carry: Any, obs: jax.Array, noise: Any
  ) -> tuple[Any, base.Action]:
    seen = normalize_memory(params.moments, carry)
    obs = normalize(params.moments, obs)
    _, action = policy.act(params.policy, seen, obs, noise)
    return carry, action

  def distribution(params: Any, carry: Any, obs: jax.Array) -> Any:
    assert policy.distribution is not None
    seen = normalize_memory(params.moments, carry)
    return policy.distribution(
      params.policy, seen, normalize(params.moments, obs)
    )

  def over(params: Any, trajectory: types.Trajectory) -> Any:
    assert policy.over is not None
    moments = params.moments
    reward = normalized.normalize(moments.reward, trajectory.reward[..., None])
    trajectory = normalized.normalized(moments.obs, trajectory)
    trajectory = trajectory._replace(reward=reward[..., 0])
    return policy.over(params.policy, trajectory)

  def observe(params: Any, carry: Any, step: base.Experience) -> Any:
    assert policy.observe is not None
    return policy.observe(params.policy, carry, step)

  return policy._replace(
    init=init,
    start=begin,
    act=act,
    distribution=None if policy.distribution is None else distribution,
    over=None if policy.over is None else over,
    observe=None if policy.observe is None else observe,
    spread=normalized.spread(policy),
  )
