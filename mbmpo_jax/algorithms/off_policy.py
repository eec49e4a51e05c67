"""Shared parts of off-policy algorithms: environment steps and updates.

A round takes `learn.update_every` steps of all environments, stores their
transitions in the ring, and makes `learn.num_updates` updates from minibatches
of it. Rounds are one scan. One program runs `run.chunk` steps, and an iteration
is several programs.

An algorithm gives `Update`, the effect of a minibatch on its learner, from
which `rounds.py` makes the phase of an iteration. `collect` and `learn` are
available separately for algorithms whose rounds do more. A state has the fields
`counters`, `hyper`, those of `World`, and `learner`, which is any tree.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import config as config_lib
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs as inputs_lib
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.algorithms import tally as tally_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import episodes as episodes_lib
from mbmpo_jax.rollouts import real

_State = TypeVar('_State', bound=Any)


class State(NamedTuple):
  """The complete state of a run; a copy continues the run."""

  counters: base.Counters
  hyper: base.Hyper
  learner: Any  # learned parameters and the states of their optimisers
  running: real.Running  # the state of the environments
  buffer: buffer_lib.Buffer
  progress: 'Progress'
  # `normalized_inputs.InputMoments`, or () if nothing is normalised
  moments: Any


class Progress(NamedTuple):
  """The progress of an iteration, and its metrics so far."""

  rounds: jax.Array  # int32, rounds done in this iteration
  unfinished: episodes_lib.Sums  # of unfinished episodes, [N]
  tally: tally_lib.Tally


class World(NamedTuple):
  """Fields of the state before any data."""

  running: real.Running
  buffer: buffer_lib.Buffer
  progress: Progress
  moments: Any  # `InputMoments`, or () if inputs are not normalised


class Updated(NamedTuple):
  """The result of an update.

  Attributes:
    learner: the new learner.
    metrics: by name.
    finite: whether the gradients are finite; otherwise the update is skipped.
  """

  learner: Any
  metrics: types.Metrics
  finite: jax.Array


class Update(Protocol):
  """One gradient update, a pure function."""

  def __call__(
    self, learner: Any, hyper: base.Hyper, batch: Any, key: jax.Array
  ) -> Updated:
    """Updates the learner from a minibatch; consumes the key.

    The minibatch is often a `Transition` [B, ...].
    """
    ...


METRICS = {
  **shared_metrics.CONTINUED,
  'updates': base.Metric(
    'gradient updates taken in the iteration',
    over_runs='sum',
    per_second_of='learn',
  ),
  **shared_metrics.STUCK,
}
# Metrics that are summed over rounds; an algorithm adds its own.
_TALLIED = (
  'real/return',
  'real/length',
  'nonfinite/transitions',
  'updates',
  'nonfinite/updates',
)


def check_actions(env: envs_base.Environment) -> None:
  """Checks that an environment has continuous actions.

  Raises:
    config.ConfigError: if its actions are discrete.
  """
  if isinstance(env.action_space, spaces.Discrete):
    raise config_lib.ConfigError(
      f'env: {type(env).__name__} has {env.action_size} discrete actions: must'
      ' have continuous actions'
    )


def start(
  env: envs_base.Environment,
  policy: policies.Policy,
  params: types.Params,
  key: jax.Array,
  *,
  section: off_policy_config.Collect,
  metrics: Iterable[str],
) -> World:
  """Environments at the start of an episode, and an empty ring.

  Args:
    env: the real environment.
    policy: the collecting policy; its carry starts as well.
    params: the policy's parameters.
    key: consumed.
    section: number of environments, capacity of the ring, and whether inputs
      are normalised.
    metrics: names of the metrics that updates report.
  """
  return World(
    running=real.start(env, policy, params, key, num_envs=section.num_envs),
    buffer=buffer_lib.init_transitions(
      section.buffer_capacity, env.observation_size, env.action_size
    ),
    progress=Progress(
      rounds=jnp.zeros((), jnp.int32),
      unfinished=episodes_lib.start(section.num_envs),
      tally=tally_lib.start((*_TALLIED, *metrics)),
    ),
    moments=inputs_lib.start(env, section),
  )


def collect(
  state: _State,
  env: envs_base.Environment,
  policy: policies.Policy,
  params: types.Params,
  *,
  section: off_policy_config.Collect,
  num_steps: int,
) -> _State:
  """Steps all environments and stores the transitions, ordered by step.

  The moments of the inputs include these transitions afterwards.

  Args:
    state: with `counters` and the fields of `World`; its key is split.
    env: the real environment.
    policy: chooses the actions, after `section.start_steps` uniform ones.
    params: the policy's parameters.
    section: number of uniform actions, and the time limit of episodes.
    num_steps: steps of each environment.
  """
  counters, progress = state.counters, state.progress
  key, rollout_key = jax.random.split(counters.key)
  trajectory, running = real.rollout(
    env,
    policy,
    params,
    rollout_key,
    num_envs=section.num_envs,
    horizon=num_steps,
    random_actions=counters.env_steps < section.start_steps,
    start=state.running,
    time_limit=section.episode_length,
  )
  transitions, episodes, standing = real.to_transitions(
    trajectory, counters.episodes, start=state.running, alternating=True
  )
  unfinished, done = episodes_lib.finished(
    progress.unfinished, trajectory.reward, trajectory.ended
  )
  tally = tally_lib.add(
    progress.tally,
    {
      'real/return': done.reward,
      'real/length': done.length,
      'nonfinite/transitions': (~masking.sound_rows(transitions)).astype(float),
    },
  )
  return state._replace(
    counters=counters._replace(
      key=key,
      env_steps=counters.env_steps + section.num_envs * num_steps,
      episodes=episodes,
    ),
    running=running._replace(episode=standing),
    progress=progress._replace(unfinished=unfinished, tally=tally),
    **_stored(state, transitions),
  )


def add(state: _State, trajectory: types.Trajectory) -> _State:
  """Stores real data from outside, `[T, N, ...]`, in whole episodes.

  The moments of the inputs include them afterwards.
  """
  counters = state.counters
  transitions, episodes, _ = real.to_transitions(trajectory, counters.episodes)
  steps = transitions.reward.shape[0]
  return state._replace(
    counters=counters._replace(
      env_steps=counters.env_steps + steps, episodes=episodes
    ),
    **_stored(state, transitions),
  )


def _stored(state: Any, transitions: types.Transition) -> dict[str, Any]:
  """The fields of a state that further transitions `[B, ...]` change."""
  return {
    'buffer': buffer_lib.add(state.buffer, transitions),
    'moments': inputs_lib.update(state.moments, transitions),
  }


def learn(
  learner: Any,
  tally: tally_lib.Tally,
  update: Update,
  hyper: base.Hyper,
  batches: Any,
  key: jax.Array,
  *,
  ready: jax.Array,
) -> tuple[Any, tally_lib.Tally]:
  """Updates from G minibatches, in order.

  An update that is not finite is skipped and counted.

  Args:
    learner: the learned state.
    tally: receives the metrics.
    update: of one minibatch.
    hyper: numeric hyperparameters.
    batches: leaves `[G, B, ...]`.
    key: consumed.
    ready: whether there are enough data; otherwise nothing is updated.

  Returns:
    The new learner and tally.
  """
  num_updates = jax.tree.leaves(batches)[0].shape[0]
  keys = jax.random.split(key, num_updates)

  def step(
    index: jax.Array, carry: tuple[Any, tally_lib.Tally]
  ) -> tuple[Any, tally_lib.Tally]:
    learner, tally = carry
    batch = jax.tree.map(lambda x: x[index], batches)
    after = update(learner, hyper, batch, keys[index])
    taken = after.finite
    learner = jax.tree.map(
      lambda new, old: jnp.where(taken, new, old), after.learner, learner
    )
    metrics = {
      name: jnp.where(taken, value, jnp.nan)
      for name, value in after.metrics.items()
    }
    counts = {
      'updates': taken.astype(float),
      'nonfinite/updates': (~taken).astype(float),
    }
    return learner, tally_lib.add(tally, metrics | counts)

  # A loop with a traced bound costs nothing when it runs zero times; a `cond`
  # around it would copy its carry.
  return jax.lax.fori_loop(
    0, jnp.where(ready, num_updates, 0), step, (learner, tally)
  )


def sample(
  state: Any, key: jax.Array, *, section: off_policy_config.Learn
) -> tuple[Any, jax.Array]:
  """The minibatches of a round, and whether there are enough data for them.

  Args:
    state: with `buffer` and `moments`.
    key: consumed.
    section: gives the number G and size B of minibatches.

  Returns:
    Rows, leaves `[G, B, ...]`, by a single gather, their observations as the
    networks read them; and a bool scalar.
  """
  shape = (section.num_updates, section.batch_size)
  buffer = state.buffer
  slots = jax.random.randint(key, shape, 0, jnp.maximum(buffer.size, 1))
  rows = buffer_lib.rows_at(buffer, slots)
  rows = rows._replace(
    obs=inputs_lib.read(state.moments, rows.obs),
    next_obs=inputs_lib.read(state.moments, rows.next_obs),
  )
  return rows, buffer.size >= section.batch_size


def descend(
  optimizer: optax.GradientTransformation,
  gradient: types.Params,
  state: Any,
  params: types.Params,
) -> tuple[types.Params, Any]:
  """One step of an optimiser: the new parameters and optimiser state."""
  updates, state = optimizer.update(gradient, state, params)
  return optax.apply_updates(params, updates), state
