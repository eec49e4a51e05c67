"""ME-TRPO: model-ensemble trust-region policy optimisation.

Kurutach et al. 2018, algorithm 1.

  algorithm = algorithms.make('me_trpo', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

An iteration collects real data with the policy, fits the ensemble to all data
so far, and improves the policy inside the ensemble (`policy_step.py`), by a
fixed number of steps or for as long as the models agree that it gets better
(`stopping.py`).
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms.me_trpo import config as config_lib
from mbmpo_jax.algorithms.me_trpo import metrics as metrics_lib
from mbmpo_jax.algorithms.me_trpo import policy_step
from mbmpo_jax.algorithms.me_trpo import stopping
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real

METRICS = metrics_lib.METRICS


class State(NamedTuple):
  """Everything a run is: copy it and the run goes on from there."""

  counters: base.Counters
  hyper: base.Hyper
  policy: types.Params  # theta
  ensemble: fit_lib.FitState  # K members and their optimiser's state
  model: Any  # the members as last fitted, ready to imagine with, [K, ...]
  buffer: buffer_lib.Buffer


class Tally(NamedTuple):
  """Sums of metrics over policy steps, NaN left out."""

  total: types.Metrics
  count: types.Metrics  # of how many steps


class Progress(NamedTuple):
  """Where the policy stands within an iteration."""

  params: types.Params
  step: jax.Array  # int32, steps taken or tried
  best: stopping.Best
  passed: jax.Array  # int32, validations
  failed: jax.Array  # int32
  tally: Tally


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
    env: the real world, whose reward, termination and resets are known.
    config: hyperparameters; copied.
    policy: any policy with a density in place of `config.policy`; by default
      the tanh network of that section.
    mesh: devices to share collection and fit out over, from
      `training.devices.make_mesh`. States are replicated, and so is the
      improvement of the policy.
    check: whether to prove `env` against the contract, which runs a few steps;
      by default unless it is this package's own (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment breaks its contract.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  if mesh is not None:
    shares = config.shares()
    parallel.check(
      mesh, num_models=shares.members, tasks_per_model=shares.tasks
    )

  if policy is None:
    policy = gaussian.make(env.observation_size, env.action_size, config.policy)
  dynamics = ensemble.make(env, config.model)
  steps = policy_step.make(env, config, policy, dynamics)
  learn = _learning(config, steps)
  fit = functools.partial(
    model_based.fit, env=env, section=config.model, dynamics=dynamics
  )

  def init(key: jax.Array, hyper: base.Hyper) -> State:
    key, policy_key, model_key = jax.random.split(key, 3)
    world = model_based.init(
      env,
      dynamics,
      hyper,
      model_key,
      buffer_capacity=config.collect.buffer_capacity,
    )
    state = State(
      counters=base.start_counters(key),
      hyper=hyper,
      policy=policy.init(policy_key),
      **world._asdict(),
    )
    # No two leaves share memory: XLA refuses to be donated it twice.
    return jax.tree.map(jnp.copy, state)

  def collect(state: State) -> tuple[State, types.Metrics]:
    """Adds real episodes of the policy to the buffer, random ones at first."""
    key, rollout_key = jax.random.split(state.counters.key)
    trajectory, _ = real.rollout(
      env,
      policy,
      state.policy,
      rollout_key,
      num_envs=config.collect.num_trajectories,
      horizon=config.collect.episode_length,
      random_actions=state.counters.iteration == 0,
      mesh=mesh,
    )
    state = state._replace(counters=state.counters._replace(key=key))
    return model_based.store(state, trajectory)

  def improve(state: State) -> tuple[State, types.Metrics]:
    """All policy steps of an iteration; metrics are means, counts are sums."""
    counters = state.counters
    key, learn_key, std_key = jax.random.split(counters.key, 3)
    progress = learn(state.policy, state.model, state.hyper, learn_key)
    metrics = {
      name: total
      if name.startswith('nonfinite/')
      else jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
      for (name, total), count in zip(
        progress.tally.total.items(),
        progress.tally.count.values(),
        strict=True,
      )
    }
    checks = progress.passed + progress.failed
    rollouts, validating = config.model_rollouts, config.improve.stopping
    imagined = progress.step.astype(float) * rollouts.num_rollouts
    if validating == 'validation':
      # One more validation is that of the policy before the first step.
      per_check = config.model.num_models * config.improve.validation_rollouts
      imagined += (checks + 1).astype(float) * per_check
    stuck = (metrics['nonfinite/steps'] > 0) & (
      metrics['policy/accept_rate'] == 0
    )
    theta = progress.best.params
    state = state._replace(
      counters=counters._replace(key=key, iteration=counters.iteration + 1),
      policy=theta,
    )
    return state, {
      **metrics,
      'imagined_steps': imagined * rollouts.horizon,
      'policy/steps': progress.step.astype(float),
      'policy/kept_step': progress.best.step.astype(float),
      'policy/std': _std(env, policy, theta, std_key),
      'validation/passed': progress.passed.astype(float),
      'validation/failed': progress.failed.astype(float),
      base.STUCK: stuck.astype(float),
    }

  def behaviour(state: State, key: jax.Array) -> types.Params:
    """The policy, for each of the environments."""
    del key
    count = config.collect.num_trajectories
    return jax.tree.map(
      lambda x: jnp.broadcast_to(x, (count, *x.shape)), state.policy
    )

  # Made of the cores of a CPU, one device is as fast as all: they would do the
  # same work beside each other.
  alone = mesh is not None and backend.is_cpu(mesh) and jax.process_count() == 1
  return base.Algorithm(
    init=init,
    phases={
      'collect': base.Phase(parallel.replicating(collect, mesh)),
      'fit': base.Phase(
        parallel.replicating(functools.partial(fit, mesh=mesh), mesh),
        alone=fit if backend.fits_on_one(mesh) else None,
      ),
      'improve': base.Phase(
        parallel.replicating(improve, mesh), alone=improve if alone else None
      ),
    },
    policy=policy,
    policy_params=lambda state: state.policy,
    behaviour=behaviour,
    add=lambda state, trajectory: model_based.store(state, trajectory)[0],
    adapt=None,
    metrics=METRICS,
  )


def _learning(config: config_lib.Config, steps: policy_step.PolicyStep) -> Any:
  """`(theta, model, hyper, key) -> Progress`, all policy steps of an iteration.

  They come in rounds. With validation, each round ends with one, and one loop
  goes over the rounds until they stop; otherwise there is one round.
  """
  section = config.improve
  validating = section.stopping == 'validation'
  per_round = section.validate_every if validating else section.num_steps

  def learn(
    theta: types.Params, model: Any, hyper: base.Hyper, key: jax.Array
  ) -> Progress:
    validation_key, rounds_key = jax.random.split(key)
    # In the same states each time, so that returns differ by the policy alone.
    validate = functools.partial(
      steps.validate, model=model, key=validation_key
    )

    def take_steps(progress: Progress) -> Progress:
      keys = jax.random.split(
        jax.random.fold_in(rounds_key, progress.step), per_round
      )
      theta, metrics = jax.lax.scan(
        lambda theta, key: steps.step(theta, model, hyper, key),
        progress.params,
        keys,
      )
      return progress._replace(
        params=theta,
        step=progress.step + per_round,
        tally=_add(progress.tally, metrics),
      )

    def take_round(progress: Progress) -> Progress:
      progress = take_steps(progress)
      best, passed = stopping.validate(
        progress.best,
        progress.params,
        validate(progress.params),
        progress.step,
        worsened_fraction=hyper['improve.worsened_fraction'],
      )
      return progress._replace(
        best=best,
        passed=progress.passed + passed,
        failed=progress.failed + ~passed,
      )

    def goes_on(progress: Progress) -> jax.Array:
      return stopping.goes_on(
        progress.best,
        progress.step,
        num_steps=section.num_steps,
        patience=section.patience,
      )

    # Nothing is counted yet; the names are those of a step.
    shapes = jax.eval_shape(steps.step, theta, model, hyper, key)[1]
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    no_step = jnp.zeros((), jnp.int32)
    before = Progress(
      params=theta,
      step=no_step,
      best=stopping.start(theta, validate(theta))
      if validating
      else stopping.Best(theta, jnp.zeros(0), no_step),
      passed=no_step,
      failed=no_step,
      tally=Tally(zeros, zeros),
    )
    if validating:
      return jax.lax.while_loop(goes_on, take_round, before)
    after = take_steps(before)
    # Without validation the last policy is the best.
    best = after.best._replace(params=after.params, step=after.step)
    return after._replace(best=best)

  return learn


def _add(tally: Tally, metrics: types.Metrics) -> Tally:
  """The sums with those of the metrics `[S]` of further steps."""
  return Tally(
    {n: tally.total[n] + jnp.nansum(x) for n, x in metrics.items()},
    {n: tally.count[n] + jnp.sum(~jnp.isnan(x)) for n, x in metrics.items()},
  )


def _std(
  env: envs_base.Environment,
  policy: policies.Policy,
  theta: types.Params,
  key: jax.Array,
) -> jax.Array:
  """The mean deviation at a first observation, NaN where there is none."""
  assert policy.distribution is not None
  obs = jnp.zeros((1, env.observation_size))
  carry = policy.start(theta, key, (), 1)
  log_std = getattr(policy.distribution(theta, carry, obs), 'log_std', jnp.nan)
  return jnp.mean(jnp.exp(log_std))
