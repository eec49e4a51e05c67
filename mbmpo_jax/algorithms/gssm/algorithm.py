"""GSSM and related surrogates (Wang & van Hoof 2022, algorithms 1, 2).

  algorithm = algorithms.make('gssm', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

An iteration has three phases:

  collect   episodes of the current task, which is sampled again every
            `collect.task_every` iterations; random actions at first
  fit       the surrogate, by its evidence lower bound
  improve   updates of the policy inside it, given contexts of tasks

`adapt` infers a new task from its transitions. An amortised policy gets the
latent and takes no gradient step; a policy that is not amortised takes gradient
steps inside the model.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import config as shared_config
from mbmpo_jax import envs
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.algorithms.gssm import adaptation
from mbmpo_jax.algorithms.gssm import config as config_lib
from mbmpo_jax.algorithms.gssm import contexts
from mbmpo_jax.algorithms.gssm import fit as fit_lib
from mbmpo_jax.algorithms.gssm import learners as learners_lib
from mbmpo_jax.algorithms.gssm import policy_step
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import fit as models_fit
from mbmpo_jax.models import statistics
from mbmpo_jax.models.neural_process import surrogate as surrogate_lib
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real

_IMPROVE = {
  'imagined/return': base.Metric(
    'mean return of imagined episodes of the policy that is selected to act,'
    ' mean over updates; discounted with BPTT, undiscounted with PPO',
    label='imagined',
    curve='imagined',
    imagined=True,
  ),
  'policy/updates': base.Metric(
    'gradient updates taken, sum over all policies that learn',
    over_runs='sum',
  ),
  'nonfinite/rollouts': base.Metric(
    'imagined rollouts that were left out because a number in them or in their'
    ' gradient was not finite; sum over the updates of all policies',
    over_runs='sum',
  ),
  'nonfinite/updates': base.Metric(
    'updates that were skipped because a number in them was not finite',
    over_runs='sum',
  ),
}
METRICS = {
  **shared_metrics.COLLECT,
  'policy/saturated': shared_metrics.POLICY['policy/saturated'],
  'tasks': base.Metric('tasks sampled so far'),
  **fit_lib.METRICS,
  'imagined_steps': base.Metric(
    'model steps of the iteration', over_runs='sum', per_second_of='improve'
  ),
  **_IMPROVE,
  **shared_metrics.STUCK,
}
# Metrics of a trajectory that add up over trajectories.
_COUNTS = ('real_steps', 'nonfinite/transitions')


class State(NamedTuple):
  """The complete state of a run; a copy continues the run."""

  counters: base.Counters
  hyper: base.Hyper
  task: Any  # the current task
  task_index: jax.Array  # int32, the task's number; -1 before the first task
  learners: learners_lib.Learners  # of `policy_step.Learner`
  ensemble: models_fit.FitState  # one member and its optimiser's state
  model: Any  # the member after the last fit, leaves [1, ...]
  buffer: buffer_lib.Buffer  # with task numbers as `extras`


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Builds the algorithm for an environment.

  Args:
    env: of a task family; all tasks must share rewards and terminations.
    config: hyperparameters; copied.
    mesh: devices on which the state is replicated; each does all the work.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
    envs.TaskError: if it has no tasks, or its rewards depend on them.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  family = envs.family_of(env, config.algorithm)
  envs.require_known(env, config.algorithm, may_tell=False)
  if getattr(env, 'tell_task', False):
    raise shared_config.ConfigError(
      f'env.tell_task=True: must be False for {config.algorithm}, which infers'
      ' the task'
    )
  schedule = getattr(env, 'schedule', 'episode')
  if schedule != 'episode':
    raise shared_config.ConfigError(
      f"env.tasks={schedule!r}: must be 'episode' for {config.algorithm}, whose"
      ' task must not change within an episode'
    )
  surrogate = surrogate_lib.make(env, config.model)
  made = policy_step.make_parts(env, config)
  steps = policy_step.make(family.nominal, config, made, surrogate)
  fit_model = fit_lib.make(surrogate, config.model)
  adapting = adaptation.make(env, config, steps)
  rollouts = config.model_rollouts

  def init(key: jax.Array, hyper: base.Hyper) -> State:
    key, task_key, policy_key, model_key = jax.random.split(key, 4)
    ensemble = fit_lib.init(surrogate, hyper, model_key)
    example = jax.tree.map(
      lambda x: x[0],
      buffer_lib.init_transitions(
        1, env.observation_size, env.action_size
      ).data,
    )
    state = State(
      counters=base.start_counters(key),
      hyper=hyper,
      task=family.sample_task(task_key),
      task_index=jnp.full((), -1, jnp.int32),
      learners=learners_lib.init(
        drawing(hyper), policy_key, num=config.improve.num_learners
      ),
      ensemble=ensemble,
      model=fit_lib.before_data(
        surrogate, ensemble, statistics.before_data(env)
      ),
      buffer=buffer_lib.init(
        config.collect.buffer_capacity,
        example._replace(extras=jnp.zeros((), jnp.int32)),
      ),
    )
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
    return jax.tree.map(jnp.copy, state)

  def drawing(
    hyper: base.Hyper,
  ) -> Callable[[jax.Array], policy_step.Learner]:
    return lambda key: policy_step.init(made, config.learn, hyper, key)

  def member(state: State) -> Any:
    return jax.tree.map(lambda x: x[0], state.model)

  def latents(state: State, data: contexts.Data, key: jax.Array) -> jax.Array:
    """z [N, Z] of the current task, 0 while it has no transitions."""
    draw_key, key = jax.random.split(key)
    known = contexts.draw(
      data, state.task_index, draw_key, count=config.model.context_size
    )
    num = config.collect.num_trajectories
    return steps.latents(member(state), known, key, num)

  def collect(state: State) -> tuple[State, types.Metrics]:
    """Collects episodes of the current task, first those of uniform actions."""
    counters, section = state.counters, config.collect
    key, task_key, *keys = jax.random.split(counters.key, 5)
    latent_key, rollout_key, uniform_key = keys
    due = counters.iteration % section.task_every == 0
    due |= state.task_index < 0
    task = jax.tree.map(
      lambda new, old: jnp.where(due, new, old),
      family.sample_task(task_key),
      state.task,
    )
    state = state._replace(
      counters=counters._replace(key=key),
      task=task,
      task_index=state.task_index + due,
    )
    episodes = functools.partial(
      real.rollout,
      envs.fixed(family, task),
      made.acting,
      state.learners.best.policy,
      horizon=section.episode_length,
    )
    first: types.Metrics = {}
    if num_random := section.random_trajectories:
      trajectory, _ = episodes(
        uniform_key,
        num_envs=num_random,
        context=jnp.zeros((num_random, made.latent_size)),
        random_actions=True,
      )
      state, first = store(state, trajectory)
    data = contexts.of_buffer(state.buffer, env, config.model)
    trajectory, _ = episodes(
      rollout_key,
      num_envs=section.num_trajectories,
      context=latents(state, data, latent_key),
      random_actions=counters.iteration < section.random_iterations,
    )
    state, metrics = store(state, trajectory)
    # Returns are those of the policy; counts are of all trajectories.
    totals = {x: metrics[x] + first[x] for x in _COUNTS if x in first}
    tasks = (state.task_index + 1).astype(float)
    return state, metrics | totals | {'tasks': tasks}

  def store(
    state: State, trajectory: types.Trajectory
  ) -> tuple[State, types.Metrics]:
    """Stores episodes of the current task, or of the tasks in `extras`."""
    number = jnp.full(trajectory.reward.shape, state.task_index)
    own = trajectory.extras
    if isinstance(own, jax.Array) and jnp.issubdtype(own.dtype, jnp.integer):
      chex.assert_equal_shape([own, trajectory.reward])
      number = own.astype(number.dtype)
    return model_based.store(state, trajectory._replace(extras=number))

  def fit(state: State) -> tuple[State, types.Metrics]:
    """Fits the surrogate to the buffer."""
    key, fit_key = jax.random.split(state.counters.key)
    ensemble, model, metrics = fit_model(
      state.ensemble,
      contexts.of_buffer(state.buffer, env, config.model),
      state.buffer.data.next_obs,
      buffer_lib.mask(state.buffer),
      state.task_index,
      state.hyper,
      fit_key,
    )
    counters = state.counters._replace(key=key)
    return state._replace(
      counters=counters, ensemble=ensemble, model=model
    ), metrics

  def improve(state: State) -> tuple[State, types.Metrics]:
    """All policy updates of an iteration; metrics are means, counts sums."""
    counters = state.counters
    key, draw_key, updates_key = jax.random.split(counters.key, 3)
    data = contexts.of_buffer(state.buffer, env, config.model)
    model = member(state)
    due = counters.iteration % config.improve.restart_every == 0
    learners = learners_lib.restarted(
      state.learners,
      due & (counters.iteration > 0),
      drawing(state.hyper),
      draw_key,
    )

    def update(
      learner: policy_step.Learner, key: jax.Array
    ) -> tuple[policy_step.Learner, types.Metrics]:
      task_key, context_key, key = jax.random.split(key, 3)
      num = rollouts.num_contexts
      tasks = contexts.choose(
        data, state.task_index, task_key, kind=config.improve.data, num=num
      )
      known = jax.vmap(
        lambda task, key: contexts.context(
          data, task, key, section=config.model
        )
      )(tasks, jax.random.split(context_key, num))
      return steps.update(
        learner, model, known, state.hyper, key, rollouts.num_rollouts
      )

    learners, metrics = learners_lib.learn(
      learners,
      update,
      jax.random.split(updates_key, config.improve.num_updates),
      metrics=tuple(_IMPROVE),
      judged_by='imagined/return',
      sums=('policy/updates',),
    )
    stuck = (metrics['policy/updates'] == 0) & (
      metrics['nonfinite/updates'] > 0
    )
    imagined = (
      config.improve.num_learners
      * config.improve.num_updates
      * rollouts.num_contexts
      * rollouts.num_rollouts
      * rollouts.horizon
    )
    state = state._replace(
      counters=counters._replace(key=key, iteration=counters.iteration + 1),
      learners=learners,
    )
    return state, {
      **metrics,
      'imagined_steps': jnp.asarray(imagined, float),
      base.STUCK: stuck.astype(float),
    }

  def adapt(
    state: State, trajectory: types.Trajectory, key: jax.Array
  ) -> tuple[types.Params, Any]:
    """The policy's parameters and its context, from a task's transitions."""
    return adapting(
      state.learners.best, member(state), trajectory, state.hyper, key
    )

  return base.Algorithm(
    init=init,
    phases={
      base.COLLECT: base.Phase(parallel.replicating(collect, mesh)),
      base.FIT: base.Phase(parallel.replicating(fit, mesh)),
      base.IMPROVE: base.Phase(parallel.replicating(improve, mesh)),
    },
    policy=made.acting,
    policy_params=lambda state: state.learners.best.policy,
    behaviour=None,
    add=lambda state, trajectory: store(state, trajectory)[0],
    adapt=adapt,
    metrics=METRICS,
  )
