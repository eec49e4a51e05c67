"""M3PO, its variants M3PO-h and Full (Hiraoka et al. 2021), and MBPO.

  algorithm = algorithms.make('m3po', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

An iteration is an epoch of algorithm 2, in three phases:

  explore   uniform actions while fewer than `collect.start_steps` steps are
            taken; they count as steps of the epoch
  fit       the model, to all real data; not in epochs of exploration only
  learn     rounds of one real step, M model rollouts, G updates of SAC
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import envs
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import rounds as rounds_lib
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.algorithms import tally as tally_lib
from mbmpo_jax.algorithms.m3po import batches as batches_lib
from mbmpo_jax.algorithms.m3po import config as config_lib
from mbmpo_jax.algorithms.m3po import imagination
from mbmpo_jax.algorithms.m3po import networks as networks_lib
from mbmpo_jax.algorithms.m3po import rows as rows_lib
from mbmpo_jax.algorithms.sac import learner as learner_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import mixture
from mbmpo_jax.models import recurrent
from mbmpo_jax.models import statistics
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real

_OWN = {
  'imagined_steps': base.Metric(
    'model steps of the iteration', over_runs='sum', per_second_of='learn'
  ),
  'imagined/reward': base.Metric(
    'mean reward of the transitions in the minibatches; predicted by the models'
    ' for imagined transitions, observed for real ones'
  ),
  'nonfinite/imagined': base.Metric(
    'imagined transitions that were not stored because a number in them was not'
    ' finite',
    over_runs='sum',
  ),
  'batches/model_share': base.Metric(
    'share of imagined transitions in a minibatch, mean over the iteration'
  ),
}

METRICS = {
  **off_policy.METRICS,
  **shared_metrics.FIT,
  'model/val_loss': base.Metric(
    'validation loss of the parameters that a fit keeps, mean over models:'
    ' negative log-likelihood of held-out transitions, weighted mean over'
    ' dimensions, minus its lower bound; with `model.patience` the squared'
    ' error of the mean prediction, weighted in the same way',
    label='val loss',
    panel='validation loss',
    log=True,
  ),
  **learner_lib.METRICS,
  **_OWN,
}


class State(NamedTuple):
  """The complete state of a run; a copy continues the run."""

  counters: base.Counters
  hyper: base.Hyper
  learner: learner_lib.Learner
  ensemble: fit_lib.FitState
  model: Any  # leaves [K, ...]
  running: real.Running
  buffer: buffer_lib.Buffer  # of real transitions, D_env
  imagined: buffer_lib.Buffer  # of flat rows [W], D_model
  progress: off_policy.Progress
  moments: (
    Any  # `normalized_inputs.InputMoments`, or () if nothing is normalised
  )
  skip: jax.Array  # int32, rounds of this iteration used by exploration


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Builds the algorithm for an environment.

  Args:
    env: the real environment, with continuous actions; of a task family if
      `history.length` is positive.
    config: hyperparameters; copied.
    mesh: devices on which the state is replicated; each does all the work.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
    envs.TaskError: if it has no tasks, or a hidden task ends its episodes.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  off_policy.check_actions(env)
  length = config.history.length
  if length:
    envs.family_of(env, f'{config.algorithm} with history.length={length}')
  envs.require_known(env, config.algorithm, parts=('done',))
  policy = networks_lib.make_policy(env, config)
  networks = networks_lib.make(env, config, policy)
  acting, acting_params = inputs.acting(policy, env, config.collect)
  member = recurrent.make(
    env, config.model, length=length, units=config.history.units
  )
  imagine = imagination.make(
    env, acting, mixture.redrawn(member, config.model.num_imagining), config
  )
  per_round = config.learn.update_every
  rounds = config.collect.steps_per_env // per_round
  capacity = config.model_rollouts.buffer_capacity
  names = (*learner_lib.METRICS, *_OWN)

  def init(key: jax.Array, hyper: base.Hyper) -> State:
    key, learner_key, model_key, start_key = jax.random.split(key, 4)
    learner = learner_lib.init(networks, learner_key, hyper)
    ensemble = fit_lib.init(member, model_based.optimizer(hyper), model_key)
    blank = statistics.identity(
      statistics.input_size(env), env.observation_size, reward=True
    )
    world = off_policy.start(
      env,
      acting,
      acting_params(learner.policy, ()),
      start_key,
      section=config.collect,
      metrics=names,
    )
    state = State(
      counters=base.start_counters(key),
      hyper=hyper,
      learner=learner,
      ensemble=ensemble,
      model=jax.tree.map(
        lambda x: x[: config.model.num_imagining],
        member.ready(ensemble.params, blank),
      ),
      imagined=buffer_lib.init(
        capacity, jnp.zeros(rows_lib.row_size(env, length))
      ),
      skip=jnp.zeros((), jnp.int32),
      **world._asdict(),
    )
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
    return jax.tree.map(jnp.copy, state)

  def policy_params(state: State) -> types.Params:
    return acting_params(state.learner.policy, state.moments)

  def collect(state: State) -> State:
    return off_policy.collect(
      state,
      env,
      acting,
      policy_params(state),
      section=config.collect,
      num_steps=per_round,
    )

  def rounds_done(state: State) -> jax.Array:
    return state.counters.env_steps // (config.collect.num_envs * per_round)

  def explore(state: State) -> tuple[State, types.Metrics]:
    """Takes the steps with uniform actions before the first fit."""
    due = jnp.clip(config.start_rounds - rounds_done(state), 0, rounds)
    state = rounds_lib.begun(state, rounds)
    state = jax.lax.fori_loop(0, due, lambda _, state: collect(state), state)
    return state._replace(skip=due), {}

  fit = functools.partial(
    model_based.fit,
    env=env,
    section=config.model,
    dynamics=member,
    history=length,
    num_envs=config.collect.num_envs,
    predict_reward=True,
    num_elites=config.model.num_elites,
  )

  def fit_when_due(state: State) -> tuple[State, types.Metrics]:
    """Fits the model, unless no round of this epoch would use it."""
    if config.start_rounds < rounds:
      return fit(state)
    learned = jax.eval_shape(fit, state)[1]

    def step(state: State) -> Any:
      after, metrics = fit(state)
      return (after.counters, after.ensemble, after.model), metrics

    def wait(state: State) -> Any:
      nothing = {
        name: jnp.full(x.shape, jnp.nan if 'loss' in name else 0.0, x.dtype)
        for name, x in learned.items()
      }
      return (state.counters, state.ensemble, state.model), nothing

    # The branches return only what the fit changes, so the rest is not copied.
    changed, metrics = jax.lax.cond(state.skip < rounds, step, wait, state)
    counters, ensemble, model = changed
    return state._replace(
      counters=counters, ensemble=ensemble, model=model
    ), metrics

  def update(
    learner: learner_lib.Learner,
    hyper: base.Hyper,
    batch: learner_lib.Batch,
    key: jax.Array,
  ) -> off_policy.Updated:
    after = learner_lib.update(
      learner,
      hyper,
      batch,
      key,
      networks=networks,
      learn_temperature=config.temperature.learned,
    )
    reward = {'imagined/reward': jnp.mean(batch.reward)}
    return after._replace(metrics=after.metrics | reward)

  def live_round(state: State) -> State:
    """A real step, model rollouts, updates (algorithm 2, lines 5 to 12)."""
    index = rounds_done(state)
    state = collect(state)
    counters, progress = state.counters, state.progress
    key, imagine_key, sample_key, update_key = jax.random.split(counters.key, 4)
    ring, (steps, broken) = imagine(
      policy_params(state),
      state.model,
      state.buffer,
      state.imagined,
      index,
      imagine_key,
    )
    share = batches_lib.model_share(
      state.hyper, counters.env_steps, config.batches
    )
    tally = tally_lib.add(
      progress.tally,
      {
        'imagined_steps': steps,
        'nonfinite/imagined': broken,
        'batches/model_share': share,
      },
    )
    learner, tally = off_policy.learn(
      state.learner,
      tally,
      update,
      state.hyper,
      batches_lib.sample(
        env, config, state.buffer, ring, share, state.moments, sample_key
      ),
      update_key,
      ready=ring.size >= config.learn.batch_size,
    )
    return state._replace(
      counters=counters._replace(key=key),
      learner=learner,
      imagined=ring,
      progress=progress._replace(tally=tally),
    )

  def round_fn(state: State) -> State:
    """A round, unless exploration has replaced it."""
    state = jax.lax.fori_loop(
      0,
      jnp.where(state.skip > 0, 0, 1),
      lambda _, state: live_round(state),
      state,
    )
    return state._replace(skip=jnp.maximum(state.skip - 1, 0))

  return base.Algorithm(
    init=init,
    phases={
      'explore': base.Phase(parallel.replicating(explore, mesh)),
      base.FIT: base.Phase(
        parallel.replicating(fit_when_due, mesh),
        alone=fit_when_due if backend.fits_on_one(mesh) else None,
      ),
      base.LEARN: rounds_lib.phase(
        round_fn, config, sums=('imagined_steps',), mesh=mesh
      ),
    },
    policy=acting,
    policy_params=policy_params,
    behaviour=None,
    add=off_policy.add,
    adapt=None,
    metrics=METRICS,
  )
