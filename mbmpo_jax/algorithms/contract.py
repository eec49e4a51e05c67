"""Counts real steps that disagree with `env.reward` or `env.done`.

Imagination uses `env.reward` and `env.done`. If an environment has its own
`step`, as an adapted one does, the two may disagree in cases that the check
before a run does not reach: on the last step of an episode, or in states that
a policy finds only later. Therefore they are compared at every real step.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.rollouts import buffer as buffer_lib

REWARD, DONE = 'real/other_reward', 'real/other_done'
METRICS = {
  REWARD: base.Metric(
    "real steps of the iteration whose reward differs from the environment's"
    ' function `reward`; for environments with a custom `step` that are not'
    ' from this package',
    over_runs='sum',
  ),
  DONE: base.Metric(
    'real steps of the iteration whose termination differs from the'
    " environment's function `done`; for the same environments as"
    ' `real/other_reward`',
    over_runs='sum',
  ),
}
# Relative to the size of rewards; one formula compiled twice differs by less.
_TOLERANCE = 1e-3

_Function = Callable[[Any], tuple[Any, types.Metrics]]


def counting(
  algorithm: base.Algorithm, env: envs_base.Environment
) -> base.Algorithm:
  """The algorithm, with a phase that also counts steps that disagree.

  This phase is `collect`, or `learn` if steps and updates alternate. The
  algorithm is returned unchanged if nothing can disagree, because `step` is
  this package's, or if it does not imagine, because it has no phase `fit`.

  Args:
    algorithm: any; its state must have transitions in a field `buffer`.
    env: the environment that it was made for.
  """
  parts = _compared(env)
  if not parts or base.FIT not in algorithm.phases:
    return algorithm
  name = base.COLLECT if base.COLLECT in algorithm.phases else base.LEARN
  watched = _of_call if name == base.COLLECT else _of_iteration
  phase = algorithm.phases[name]
  phase = dataclasses.replace(
    phase,
    function=watched(phase.function, env),
    alone=None if phase.alone is None else watched(phase.alone, env),
  )
  return algorithm._replace(
    phases={**algorithm.phases, name: phase},
    metrics={**algorithm.metrics, **{name: METRICS[name] for name in parts}},
  )


def _of_call(function: _Function, env: envs_base.Environment) -> _Function:
  """Compares the rows that a call of the function adds to the buffer."""

  def call(state: Any) -> tuple[Any, types.Metrics]:
    since, steps = state.buffer.position, state.counters.env_steps
    state, metrics = function(state)
    added = state.counters.env_steps - steps
    new = buffer_lib.newest(state.buffer, since, added=added)
    return state, metrics | differing(env, state.buffer.data, new)

  return call


def _of_iteration(function: _Function, env: envs_base.Environment) -> _Function:
  """Compares all steps of an iteration, from any of its phases and calls.

  After the iteration's last call these are the newest rows. The metrics of that
  call are the phase's.
  """

  def call(state: Any) -> tuple[Any, types.Metrics]:
    state, metrics = function(state)
    stored = metrics['real_steps'] - metrics['nonfinite/transitions']
    new = buffer_lib.last(state.buffer, stored.astype(jnp.int32))
    return state, metrics | differing(env, state.buffer.data, new)

  return call


def differing(
  env: envs_base.Environment, rows: types.Transition, chosen: jax.Array
) -> types.Metrics:
  """The number of chosen transitions that disagree with `env`.

  Rewards must agree up to 1e-3 of their mean size.

  Args:
    env: gives `reward` and `done`, as far as they are known.
    rows: `[B, ...]`.
    chosen: 1. where a row counts, `[B]`; other rows may hold anything.
  """
  counts, parts = {}, _compared(env)
  if REWARD in parts:
    told = env.reward(rows.obs, rows.action, rows.next_obs)
    sound = (chosen > 0) & jnp.isfinite(rows.reward)
    size = jnp.sum(jnp.where(sound, jnp.abs(rows.reward), 0.0))
    size /= jnp.maximum(jnp.sum(chosen), 1)
    allowed = _TOLERANCE * (jnp.abs(rows.reward) + size)
    wrong = ~(jnp.abs(told - rows.reward) <= allowed)
    counts[REWARD] = jnp.sum(jnp.where(wrong, chosen, 0.0))
  if DONE in parts:
    wrong = (env.done(rows.next_obs) > 0) != (rows.terminated > 0)
    counts[DONE] = jnp.sum(jnp.where(wrong, chosen, 0.0))
  return counts


def _compared(env: envs_base.Environment) -> tuple[str, ...]:
  """The metrics that this environment needs."""
  written_once = type(env).step is envs_base.Environment.step
  if written_once or envs.is_own(env):
    return ()
  known = {REWARD: env.reward_is_known, DONE: env.done_is_known}
  return tuple(name for name, is_known in known.items() if is_known)
