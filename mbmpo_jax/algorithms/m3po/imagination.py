"""Rollouts in the model: branched, of growing length, and of whole episodes.

They are stored as rows (`rows.py`). The history of a row is real before the
rollout's start and imagined afterwards.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms.m3po import config as config_lib
from mbmpo_jax.algorithms.m3po import rows as rows_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import imagined


class Imagined(NamedTuple):
  """The rows of rollouts, ordered by step; B = k N."""

  rows: rows_lib.Row
  live: jax.Array  # [B] bool, false after a rollout's end


def branched(
  env: envs_base.Environment,
  policy: policies.Policy,
  params: types.Params,
  dynamics: models.Dynamics,
  model: Any,
  buffer: buffer_lib.Buffer,
  key: jax.Array,
  *,
  num_rollouts: int,
  horizon: int,
  length: int,
  num_envs: int = 1,
) -> Imagined:
  """k-step rollouts from histories uniform in the real data (section 3.3).

  Args:
    env: gives rewards and terminations that the model does not predict.
    policy: its memory includes the history before the branch.
    params: the policy's parameters.
    dynamics: a mixture of the members.
    model: all members.
    buffer: of real transitions, D_env.
    key: consumed.
    num_rollouts: M.
    horizon: k.
    length: L.
    num_envs: number of environments whose steps alternate in the data.

  Returns:
    k M rows.
  """
  slots_key, rollout_key = jax.random.split(key)
  start = starts(
    buffer, slots_key, num=num_rollouts, length=length, num_envs=num_envs
  )
  return onward(
    env, policy, params, dynamics, model, start, rollout_key, horizon=horizon
  )


def starts(
  buffer: buffer_lib.Buffer,
  key: jax.Array,
  *,
  num: int,
  length: int,
  num_envs: int = 1,
) -> history.Seen:
  """Observations [num, O] with histories, uniform in the real data.

  Args:
    buffer: of real transitions, D_env.
    key: consumed.
    num: number of starts.
    length: L.
    num_envs: number of environments whose steps alternate in the data.
  """
  slots = jax.random.randint(key, (num,), 0, jnp.maximum(buffer.size, 1))
  window = history.stored(buffer, slots, length=length, num_envs=num_envs)
  return history.Seen(buffer.data.obs[slots], window)


def onward(
  env: envs_base.Environment,
  policy: policies.Policy,
  params: types.Params,
  dynamics: models.Dynamics,
  model: Any,
  start: history.Seen,
  key: jax.Array,
  *,
  horizon: int,
) -> Imagined:
  """k-step rollouts from given histories.

  Args:
    env: gives rewards and terminations that the model does not predict.
    policy: its memory includes the history before the branch.
    params: the policy's parameters.
    dynamics: a mixture of the members.
    model: all members.
    start: M observations with their histories.
    key: consumed.
    horizon: k.

  Returns:
    k M rows.

  Raises:
    ValueError: if M is not a multiple of the members, which share the rollouts.
  """
  trajectory = imagined.rollout(
    policy,
    params,
    dynamics,
    model,
    key,
    start.obs,
    horizon=horizon,
    reward_fn=env.reward,
    done_fn=env.done,
    context=start.window,
  )
  return _rows(start.window, trajectory, trajectory.mask > 0)


def growing_horizon(
  env_steps: jax.Array, section: config_lib.ModelRollouts
) -> jax.Array:
  """k after `env_steps` real steps, int32 (Janner et al. 2019, appendix C).

  It changes linearly from `horizon` to `final_horizon` between `growth_start`
  and `growth_end`, and is rounded down.

  Example:
    >>> section = config_lib.ModelRollouts(
    ...   horizon=1, final_horizon=15, growth_start=20, growth_end=150
    ... )
    >>> [int(growing_horizon(jnp.int32(x), section)) for x in (0, 85, 200)]
    [1, 8, 15]
  """
  first, last = section.horizon, section.final_horizon
  if last is None:
    return jnp.int32(first)
  begin, end = section.growth_start, section.growth_end
  # In whole numbers: a product with a quotient may lie below a whole number.
  done = jnp.clip(env_steps, begin, end) - begin
  return jnp.int32(first + (last - first) * done // (end - begin))


def full(
  env: envs_base.Environment,
  policy: policies.Policy,
  params: types.Params,
  dynamics: models.Dynamics,
  model: Any,
  key: jax.Array,
  *,
  num_rollouts: int,
  horizon: int,
  length: int,
) -> Imagined:
  """Rollouts from the start of an episode to its end (section 5.1).

  A rollout that terminates restarts from its first observation, as a new
  episode.

  Args:
    env: gives starts and terminations, and rewards if the model predicts none.
    policy: chooses the actions.
    params: the policy's parameters.
    dynamics: a mixture of the members.
    model: all members.
    key: consumed.
    num_rollouts: N.
    horizon: H, the length of an episode.
    length: L.

  Returns:
    H N rows, all of them live.

  Raises:
    ValueError: if N is not a multiple of the members, which share the rollouts.
  """
  obs_key, rollout_key = jax.random.split(key)
  obs = jax.vmap(env.initial_obs)(jax.random.split(obs_key, num_rollouts))
  restart_obs = None
  if env.can_terminate:
    restart_obs = jnp.broadcast_to(obs[None], (horizon, *obs.shape))
  trajectory = imagined.rollout(
    policy,
    params,
    dynamics,
    model,
    rollout_key,
    obs,
    horizon=horizon,
    reward_fn=env.reward,
    done_fn=env.done,
    restart_obs=restart_obs,
  )
  window = history.empty(
    num_rollouts, env.observation_size, env.action_size, length=length
  )
  return _rows(window, trajectory, jnp.ones_like(trajectory.mask, dtype=bool))


def make(
  env: envs_base.Environment,
  policy: policies.Policy,
  dynamics: models.Dynamics,
  config: config_lib.Config,
) -> Any:
  """Builds the imagination of a round.

  Args:
    env: the real environment.
    policy: chooses the actions.
    dynamics: a mixture of the members.
    config: of the experiment.

  Returns:
    A function `(policy params, model, D_env, D_model, round, key) -> (D_model,
    counts)`, which writes the round's imagined steps into D_model. The counts
    are the number of live steps, and of those that were not written because
    they are not finite.
  """
  rollouts, length = config.model_rollouts, config.history.length

  def write(
    ring: buffer_lib.Buffer, found: Imagined
  ) -> tuple[buffer_lib.Buffer, tuple[jax.Array, jax.Array]]:
    flat = rows_lib.flatten(found.rows)
    sound = masking.sound_rows(flat)
    # `buffer.add` does not write rows that are not finite.
    ring = buffer_lib.add(ring, jnp.where(found.live[:, None], flat, jnp.nan))
    live = jnp.sum(found.live, dtype=float)
    return ring, (live, jnp.sum(found.live & ~sound, dtype=float))

  def branch(
    params: types.Params,
    model: Any,
    buffer: buffer_lib.Buffer,
    ring: buffer_lib.Buffer,
    index: jax.Array,
    key: jax.Array,
  ) -> tuple[buffer_lib.Buffer, tuple[jax.Array, jax.Array]]:
    del index
    return write(
      ring,
      branched(
        env,
        policy,
        params,
        dynamics,
        model,
        buffer,
        key,
        num_rollouts=rollouts.num_rollouts,
        horizon=rollouts.horizon,
        length=length,
        num_envs=config.collect.num_envs,
      ),
    )

  def from_start(
    params: types.Params,
    model: Any,
    buffer: buffer_lib.Buffer,
    ring: buffer_lib.Buffer,
    index: jax.Array,
    key: jax.Array,
  ) -> tuple[buffer_lib.Buffer, tuple[jax.Array, jax.Array]]:
    del buffer

    def imagine(_: Any, carry: Any) -> Any:
      ring, _, key = carry
      found = full(
        env,
        policy,
        params,
        dynamics,
        model,
        key,
        num_rollouts=rollouts.num_full,
        horizon=config.collect.episode_length,
        length=length,
      )
      return *write(ring, found), jax.random.fold_in(key, 0)

    # Starts with the first round after exploration, which has updates already,
    # or, after steps from outside, with the first round of all.
    due = (index - config.start_rounds) % config.full_period == 0
    due |= ring.size == 0
    zero = jnp.zeros(())
    # A loop of zero or one steps, because a `cond` would copy the ring. The key
    # changes in the loop, or XLA would move the rollouts out of it as
    # loop-invariant, and make them in every round.
    ring, counts, _ = jax.lax.fori_loop(
      0, jnp.where(due, 1, 0), imagine, (ring, (zero, zero), key)
    )
    return ring, counts

  def lengthening(
    params: types.Params,
    model: Any,
    buffer: buffer_lib.Buffer,
    ring: buffer_lib.Buffer,
    index: jax.Array,
    key: jax.Array,
  ) -> tuple[buffer_lib.Buffer, tuple[jax.Array, jax.Array]]:
    start_key, key = jax.random.split(key)
    start = starts(
      buffer,
      start_key,
      num=rollouts.num_rollouts,
      length=length,
      num_envs=config.collect.num_envs,
    )

    def step(index: jax.Array, carry: Any) -> Any:
      """One step of all rollouts, from the histories that they have."""
      seen, alive, ring, counts = carry
      found = onward(
        env,
        policy,
        params,
        dynamics,
        model,
        seen,
        jax.random.fold_in(key, index),
        horizon=1,
      )
      live, rows = found.live & alive, found.rows
      ring, new = write(ring, found._replace(live=live))
      window = history.push(seen.window, seen.obs, rows.action, rows.reward)
      return (
        history.Seen(rows.next_obs, window),
        live & ~(rows.terminated > 0),
        ring,
        jax.tree.map(jnp.add, counts, new),
      )

    per_round = config.collect.num_envs * config.learn.update_every
    alive = jnp.ones(rollouts.num_rollouts, bool)
    zero = jnp.zeros(())
    _, _, ring, counts = jax.lax.fori_loop(
      0,
      growing_horizon(index * per_round, rollouts),
      step,
      (start, alive, ring, (zero, zero)),
    )
    return ring, counts

  if rollouts.kind == 'full':
    return from_start
  return branch if rollouts.final_horizon is None else lengthening


def _rows(
  start: Any, trajectory: types.Trajectory, live: jax.Array
) -> Imagined:
  """The flat steps of a trajectory [T, N]; `start` is the window before it."""

  def flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])

  rows = rows_lib.Row(
    seen=history.Seen(trajectory.obs, history.along(start, trajectory)),
    action=trajectory.env_action,
    reward=trajectory.reward,
    next_obs=trajectory.next_obs,
    terminated=trajectory.terminated,
  )
  return Imagined(jax.tree.map(flat, rows), flat(live))
