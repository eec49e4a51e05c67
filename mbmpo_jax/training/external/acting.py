"""Runs a policy in N environments that are stepped outside JAX."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import base
from mbmpo_jax.rollouts import unroll
from mbmpo_jax.training.external import task


class Acting:
  """N episodes in parallel, with the policy's memory.

  Each call of `act` must be followed by one of `tell` with the results of the
  step. The compiled programs of a policy are cached and work for all its
  parameters.
  """

  def __init__(
    self, behaviour: task.Behaviour, space: spaces.ActionSpace, num: int
  ) -> None:
    """Starts N episodes."""
    policy = behaviour.policy
    if behaviour.per_env:
      policy = base.per_rollout(policy)
    self._random, self._greedy = behaviour.random, behaviour.greedy
    self._params = () if behaviour.random else behaviour.params
    self._space, self._num = space, num
    start_key, self._key = jax.random.split(behaviour.key)
    self._policy = _hashed(behaviour.policy, behaviour.per_env, policy)
    self._step = 0
    self._carry: Any = ()
    if not behaviour.random:
      self._carry = _start(self._policy, self._params, start_key, num)
    self._tells = not behaviour.random and (
      policy.observe is not None or bool(jax.tree.leaves(self._carry))
    )
    self._action: Any = None

  def act(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns actions [N, A] at `obs` [N, O].

    Returns:
      The policy's raw actions, and the actions for the environment.
    """
    step = np.int32(self._step)
    self._step += 1
    if self._random:
      action = _uniform(self._space, self._key, step, self._num)
      action = np.asarray(action)
      return action, action
    self._carry, action = _act(
      self._policy, self._params, self._carry, obs, self._key, step,
      self._greedy,
    )  # fmt: skip
    return np.asarray(action.raw), np.asarray(action.env)

  def tell(
    self,
    obs: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    next_obs: np.ndarray,
    terminated: np.ndarray,
    ended: np.ndarray,
  ) -> None:
    """Updates the memory with the results of a step.

    Where `ended` [N] is 1, a new episode follows.
    """
    if self._tells:
      experience = base.Experience(
        *map(jnp.asarray, (obs, action, reward, next_obs, terminated))
      )
      self._carry = _tell(
        self._policy, self._params, self._carry, experience, ended,
        self._key, np.int32(self._step),
      )  # fmt: skip


class _Hashed:
  """A policy as a cache key for compiled programs, hashed by its parts."""

  def __init__(self, key: Any, policy: base.Policy) -> None:
    self.key, self.policy = key, policy

  def __hash__(self) -> int:
    return hash(self.key)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _Hashed) and self.key == other.key


def _hashed(policy: base.Policy, per_env: bool, acting: base.Policy) -> _Hashed:
  return _Hashed((policy, per_env), acting)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _start(policy: _Hashed, params: Any, key: jax.Array, num: int) -> Any:
  return policy.policy.start(params, key, (), num)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _uniform(
  space: spaces.ActionSpace, key: jax.Array, step: jax.Array, num: int
) -> jax.Array:
  return space.sample(jax.random.fold_in(key, step), (num,))


@functools.partial(jax.jit, static_argnums=(0, 6))
def _act(
  policy: _Hashed,
  params: Any,
  carry: Any,
  obs: jax.Array,
  key: jax.Array,
  step: jax.Array,
  greedy: bool,
) -> tuple[Any, base.Action]:
  noise = None
  if not greedy:
    noise_key, _ = jax.random.split(jax.random.fold_in(key, step))
    noise = policy.policy.noise(noise_key, obs.shape[:1])
  return policy.policy.act(params, carry, obs, noise)


@functools.partial(jax.jit, static_argnums=0)
def _tell(
  policy: _Hashed,
  params: Any,
  carry: Any,
  experience: base.Experience,
  ended: jax.Array,
  key: jax.Array,
  step: jax.Array,
) -> Any:
  if policy.policy.observe is not None:
    carry = policy.policy.observe(params, carry, experience)
  # The key of the previous step; the other half of the split is for noise.
  _, fresh_key = jax.random.split(jax.random.fold_in(key, step - 1))
  fresh = policy.policy.start(params, fresh_key, (), ended.shape[0])
  return unroll.where_ended(jnp.asarray(ended), fresh, carry)
