"""Alternating rounds of steps and updates: an off-policy iteration.

Rounds are one scan, and one program runs `run.chunk` steps of each environment.
The progress of the iteration and its metrics so far are part of the state.
Therefore results do not depend on the number of programs, bit for bit.
"""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms import tally as tally_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.policies import base as policies

_State = TypeVar('_State', bound=Any)


def phase(
  round_fn: Callable[[_State], _State],
  config: off_policy_config.Config,
  *,
  sums: Collection[str] = (),
  mesh: jax.sharding.Mesh | None = None,
) -> base.Phase:
  """The phase of an iteration that consists of rounds only.

  Args:
    round_fn: state -> state, with `learn.update_every` steps.
    config: of the experiment.
    sums: metrics of the tally that are summed; the others are averaged.
    mesh: devices on which the state is replicated; each does all the work.
  """
  per_round = config.learn.update_every
  rounds = config.collect.steps_per_env // per_round
  sums = {'updates', *sums}

  def chunk(state: _State) -> tuple[_State, types.Metrics]:
    state, _ = jax.lax.scan(
      lambda state, _: (round_fn(state), None),
      begun(state, rounds),
      length=config.run.chunk // per_round,
    )
    progress = state.progress
    progress = progress._replace(
      rounds=progress.rounds + config.run.chunk // per_round
    )
    counters = state.counters
    ends = (progress.rounds == rounds).astype(jnp.int32)
    counters = counters._replace(iteration=counters.iteration + ends)
    metrics = tally_lib.summary(progress.tally, sums=sums)
    stuck = (metrics['nonfinite/updates'] > 0) & (metrics['updates'] == 0)
    return state._replace(counters=counters, progress=progress), {
      'env_steps': counters.env_steps,
      'real_steps': jnp.asarray(config.collect.steps, float),
      base.STUCK: stuck.astype(float),
      **metrics,
    }

  return base.Phase(
    parallel.replicating(chunk, mesh),
    repeats=config.collect.steps_per_env // config.run.chunk,
  )


def begun(state: _State, rounds: int) -> _State:
  """The state with progress reset to 0 if all `rounds` of it are done."""
  progress = state.progress
  begins = progress.rounds >= rounds
  return state._replace(
    progress=progress._replace(
      rounds=jnp.where(begins, 0, progress.rounds),
      tally=jax.tree.map(
        lambda x: jnp.where(begins, jnp.zeros_like(x), x), progress.tally
      ),
    )
  )


def of_transitions(
  env: envs_base.Environment,
  config: off_policy_config.Config,
  update: off_policy.Update,
  behave: Callable[[Any], tuple[policies.Policy, types.Params]],
  *,
  sample: Callable[..., tuple[Any, jax.Array]] = off_policy.sample,
) -> Callable[[off_policy.State], off_policy.State]:
  """A round of an algorithm that learns only from real transitions.

  Args:
    env: the real environment.
    config: of the experiment.
    update: of one minibatch from `sample`.
    behave: state -> the collecting policy and its parameters.
    sample: like `off_policy.sample`, whose minibatches are `Transition`
      [B, ...].
  """

  def round_fn(state: off_policy.State) -> off_policy.State:
    policy, params = behave(state)
    state = off_policy.collect(
      state,
      env,
      policy,
      params,
      section=config.collect,
      num_steps=config.learn.update_every,
    )
    counters, progress = state.counters, state.progress
    key, sample_key, update_key = jax.random.split(counters.key, 3)
    batches, enough = sample(state, sample_key, section=config.learn)
    learner, tally = off_policy.learn(
      state.learner,
      progress.tally,
      update,
      state.hyper,
      batches,
      update_key,
      ready=enough & (counters.env_steps >= config.collect.start_steps),
    )
    return state._replace(
      counters=counters._replace(key=key),
      learner=learner,
      progress=progress._replace(tally=tally),
    )

  return round_fn


def make_init(
  env: envs_base.Environment,
  section: off_policy_config.Collect,
  init_learner: Callable[[jax.Array, base.Hyper], Any],
  behave: Callable[[Any], tuple[policies.Policy, types.Params]],
  metrics: Collection[str],
) -> Callable[[jax.Array, base.Hyper], off_policy.State]:
  """The algorithm's `init`, `(key, hyper) -> state`.

  Args:
    env: the real environment.
    section: settings of data collection.
    init_learner: `(key, hyper) -> learner`; consumes the key.
    behave: state -> the collecting policy and its parameters.
    metrics: names of the metrics that updates report.
  """

  def init(key: jax.Array, hyper: base.Hyper) -> off_policy.State:
    key, learner_key, start_key = jax.random.split(key, 3)
    learner = init_learner(learner_key, hyper)
    state = off_policy.State(
      base.start_counters(key),
      hyper,
      learner,
      *([()] * 4),  # type: ignore
    )
    world = off_policy.start(
      env,
      *behave(state),
      start_key,
      section=section,
      metrics=metrics,
    )
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
    return jax.tree.map(jnp.copy, state._replace(**world._asdict()))

  return init
