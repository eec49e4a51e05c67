"""MB-MPO: model-based meta-policy optimisation (Clavera et al. 2018, alg. 1).

  algorithm = algorithms.make('mbmpo', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

`update` runs the phases `collect`, `fit` and `improve`. Each phase is pure,
depends only on the state, and can be jitted, vmapped over states, or called
alone. With a robot, one fills the buffer by `algorithm.add` instead of
`collect`.

A step of `improve` is in `meta_step.py`, its tasks' rollouts are in
`task_rollouts.py`. All leaves that belong to tasks have leading axes [K, P].
"""

import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import config as config_base
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import learning
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.algorithms.mbmpo import meta_step
from mbmpo_jax.algorithms.mbmpo import metrics as metrics_lib
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import disagreement
from mbmpo_jax.objectives import maml
from mbmpo_jax.objectives import returns
from mbmpo_jax.optim import inner_rate
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import real

METRICS = metrics_lib.METRICS

# Number of buffer states for the starts of an iteration's rollouts, and a
# constant that keeps their key apart from those that it is split into.
_NUM_STATES = 4096
_STATES = 0x73746174
# The greatest number of transitions at which members are compared; its key.
_NUM_ALONG = 512
_ALONG = 0x616C6F6E
_VALIDATION = 0x76616C69


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  *,
  policy: policies.Policy | None = None,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Builds the algorithm for an environment.

  Args:
    env: the real environment, whose reward, termination and resets are known.
    config: hyperparameters; copied.
    policy: any policy with a density, in place of `config.policy`. The default
      is the tanh network of that section, or a softmax over discrete actions.
    mesh: devices over which the work is distributed, from
      `training.devices.make_mesh`. States are replicated, and results equal
      those of one device up to rounding.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`). Sizes,
      limits and methods are checked in any case.

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  model_based.check_imagined(env, config.model, config.algorithm)
  if mesh is not None:
    parallel.check(
      mesh,
      num_models=config.model.num_models,
      tasks_per_model=config.model_rollouts.tasks_per_model,
    )

  if policy is None:
    policy = model_based.make_policy(env, config.policy)
  model_based.check_policy(env, policy)
  policy = model_based.reading(policy, env, config.collect)
  dynamics = model_based.make_dynamics(env, config.model)
  meta = meta_step.make(env, config, policy, dynamics, mesh=mesh)
  share_out = functools.partial(parallel.share_out, mesh=mesh)
  declared = metrics_lib.declared(config)
  imagination = config.model_rollouts

  fit = functools.partial(
    model_based.fit, env=env, section=config.model, dynamics=dynamics
  )

  def init(key: jax.Array, hyper: base.Hyper) -> state_lib.State:
    key, policy_key, model_key = jax.random.split(key, 3)
    world = model_based.init(
      env,
      dynamics,
      hyper,
      model_key,
      buffer_capacity=config.collect.buffer_capacity,
    )
    state = state_lib.State(
      counters=base.start_counters(key),
      hyper=hyper,
      policy=policy.init(policy_key),
      **world._asdict(),
    )
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
    return jax.tree.map(jnp.copy, state)

  def states_seen(state: state_lib.State, key: jax.Array) -> jax.Array | None:
    """States of the buffer as starts of rollouts, [S, O]; or `None`.

    They are NaN for an empty buffer, so that rollouts start at resets.
    """
    if not imagination.num_seen:
      return None
    seen = buffer_lib.sample_newest(
      state.buffer,
      jax.random.fold_in(key, _STATES),
      count=_NUM_STATES,
      newest=imagination.newest_starts,
    ).obs
    return jnp.where(state.buffer.size > 0, seen, jnp.nan)

  def behaviour(state: state_lib.State, key: jax.Array) -> types.Params:
    """The adapted policies, each for its part of the environments."""

    def adapted(
      theta: types.Params, model: Any, seen: jax.Array | None
    ) -> types.Params:
      rollouts = meta.rollout(
        theta, model, state.hyper, key, per_task=False, seen=seen
      )
      return meta.adapt(theta, rollouts, state.hyper)[0]

    if config.collect.policy == 'meta':
      count = config.collect.num_trajectories
      return jax.tree.map(
        lambda x: jnp.broadcast_to(x, (count, *x.shape)), state.policy
      )
    params = share_out(
      adapted,
      in_specs=(parallel.REPLICATED, parallel.BY_MODEL, parallel.REPLICATED),
      out_specs=parallel.BY_TASK,
    )(state.policy, state.model, states_seen(state, key))
    share = config.collect.num_trajectories // config.num_tasks
    return jax.tree.map(
      lambda x: jnp.repeat(
        x.reshape(config.num_tasks, *x.shape[2:]), share, axis=0
      ),
      params,
    )

  def collect(state: state_lib.State) -> tuple[state_lib.State, types.Metrics]:
    """Adds real trajectories of the adapted policies to the buffer."""
    counters = state.counters
    key, behaviour_key, rollout_key = jax.random.split(counters.key, 3)
    adapts = config.collect.policy == 'adapted'
    trajectory, _ = real.rollout(
      env,
      policy,
      behaviour(state, behaviour_key) if adapts else state.policy,
      rollout_key,
      num_envs=config.collect.num_trajectories,
      horizon=config.collect.episode_length,
      per_env=adapts,
      random_actions=counters.iteration == 0,
      mesh=mesh,
    )
    state = state._replace(counters=counters._replace(key=key))
    state, metrics = model_based.store(state, trajectory)
    if metrics_lib.SHORT in declared:
      first = imagination.horizon
      metrics[metrics_lib.SHORT] = episodes.mean(
        trajectory.reward[:first], trajectory.terminated[:first]
      )
    return state, metrics

  def improve(state: state_lib.State) -> tuple[state_lib.State, types.Metrics]:
    """All meta-steps of an iteration; metrics are means, counts are sums."""
    if imagination.num_seen:
      _refuse_empty(state.buffer, imagination.buffer_starts)
    counters = state.counters
    key, steps_key = jax.random.split(counters.key)

    def meta_steps(
      theta: types.Params, model: Any, seen: jax.Array | None
    ) -> learning.Progress:
      return learning.learn(
        theta,
        jax.random.split(steps_key, config.meta.num_meta_steps),
        lambda theta, key: meta.step(theta, model, state.hyper, key, seen),
        lambda theta: meta.validate(
          theta,
          model,
          state.hyper,
          jax.random.fold_in(steps_key, _VALIDATION),
        ),
        section=config.meta,
        worsened_fraction=config.meta.worsened_fraction,
      )

    progress = share_out(
      meta_steps,
      in_specs=(parallel.REPLICATED, parallel.BY_MODEL, parallel.REPLICATED),
      out_specs=parallel.REPLICATED,
    )(state.policy, state.model, states_seen(state, steps_key))
    theta = progress.best.params
    metrics = learning.summary(progress.values)
    if config.meta.stopping == 'validation':
      metrics |= {
        'meta/steps': progress.step.astype(float),
        'meta/kept_step': progress.best.step.astype(float),
        'validation/passed': progress.passed.astype(float),
        'validation/failed': progress.failed.astype(float),
      }
    disagreement_key = jax.random.fold_in(steps_key, _ALONG)
    newest = buffer_lib.sample_newest(
      state.buffer,
      disagreement_key,
      count=_num_along(config),
      newest=config.collect.steps,
    )
    stuck = (metrics['nonfinite/steps'] > 0) & (
      metrics['meta/accept_rate'] == 0
    )
    # Each step and each validation imagines before and after adaptation.
    rollouts = 2 * config.num_tasks * imagination.rollouts_per_task
    rounds = progress.step + learning.checks(progress, section=config.meta)
    state = state._replace(
      counters=counters._replace(key=key, iteration=counters.iteration + 1),
      policy=theta,
    )
    return state, {
      **metrics,
      'imagined/promise': promise(progress.values),
      'model/disagreement': disagreement.along(
        dynamics,
        state.model,
        newest,
        disagreement_key,
        change=env.change,
      ),
      'imagined_steps': rounds * float(rollouts * imagination.horizon),
      base.STUCK: stuck.astype(float),
    }

  def promise(values: types.Metrics) -> jax.Array:
    """The return that the models predict for the policies that collect.

    NaN if no rollout starts as a real episode does.
    """
    if imagination.num_seen == imagination.rollouts_per_task:
      return jnp.full((), jnp.nan)
    adapts = config.collect.policy == 'adapted'
    return values['imagined/return_' + ('post' if adapts else 'pre')][0]

  def add(
    state: state_lib.State, trajectory: types.Trajectory
  ) -> state_lib.State:
    return model_based.store(state, trajectory)[0]

  def adapt(
    state: state_lib.State, trajectory: types.Trajectory, key: jax.Array
  ) -> tuple[types.Params, Any]:
    """One inner step from theta, on real rollouts of theta."""
    del key
    section = config.meta
    advantages = returns.advantages(
      trajectory,
      discount=state.hyper['advantage.discount'],
      gae_lambda=state.hyper['advantage.gae_lambda'],
      ridge=state.hyper['advantage.baseline_ridge'],
    )
    rate = state.hyper['meta.inner_lr']
    if section.max_inner_kl is not None:
      rate = inner_rate.bounded(
        policy,
        state.policy,
        trajectory,
        advantages,
        inner_lr=rate,
        max_kl=section.max_inner_kl,
        objective=section.inner_objective,
      )
    adapted = maml.adapt(
      policy,
      state.policy,
      trajectory,
      advantages,
      inner_lr=rate,
      objective=section.inner_objective,
    )
    return adapted, ()

  fit_phase = base.Phase(
    parallel.replicating(functools.partial(fit, mesh=mesh), mesh),
    alone=fit if backend.fits_on_one(mesh) else None,
  )
  return base.Algorithm(
    init=init,
    phases={
      base.COLLECT: base.Phase(parallel.replicating(collect, mesh)),
      base.FIT: fit_phase,
      base.IMPROVE: base.Phase(parallel.replicating(improve, mesh)),
    },
    policy=policy,
    policy_params=lambda state: state.policy,
    behaviour=behaviour,
    add=add,
    adapt=adapt,
    metrics=model_based.metrics(declared, config.model),
  )


def _refuse_empty(buffer: buffer_lib.Buffer, share: float) -> None:
  """Raises `ConfigError` for an empty buffer; a traced size is not checked."""
  if not isinstance(buffer.size, jax.core.Tracer) and not buffer.size:
    raise config_base.ConfigError(
      f'model_rollouts.buffer_starts={share}: must be 0 while the buffer is'
      ' empty, as it has no states to start from'
    )


def _num_along(config: config_lib.Config) -> int:
  """A hundredth of a member's imagined steps, from 1 to `_NUM_ALONG`."""
  rollouts = config.model_rollouts
  steps = rollouts.rollouts_per_task * rollouts.horizon
  imagined = config.meta.num_meta_steps * rollouts.tasks_per_model * steps
  return min(_NUM_ALONG, max(1, imagined // 100))
