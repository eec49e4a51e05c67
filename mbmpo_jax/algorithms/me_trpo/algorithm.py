"""ME-TRPO: model-ensemble trust-region policy optimisation.

This is algorithm 1 of Kurutach et al. 2018.

  algorithm = algorithms.make('me_trpo', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

An iteration collects real data with the policy, fits the ensemble to all data
so far, and improves the policy inside the ensemble (`policy_step.py`). It takes
a fixed number of policy steps, or continues as long as the models agree that
the policy improves (`learning.py`).
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
from mbmpo_jax.algorithms import learning
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms.me_trpo import config as config_lib
from mbmpo_jax.algorithms.me_trpo import metrics as metrics_lib
from mbmpo_jax.algorithms.me_trpo import policy_step
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real

METRICS = metrics_lib.METRICS


class State(NamedTuple):
  """The complete state of a run; a copy continues the run."""

  counters: base.Counters
  hyper: base.Hyper
  policy: types.Params  # theta
  ensemble: fit_lib.FitState  # K members and their optimisers' states
  model: Any  # the members after the last fit, for imagination, [K, ...]
  buffer: buffer_lib.Buffer


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
    mesh: devices over which collection and fit are distributed, from
      `training.devices.make_mesh`. States are replicated, and every device does
      all of the policy's improvement.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  model_based.check_imagined(env, config.model, config.algorithm)
  if mesh is not None:
    shares = config.shares()
    parallel.check(
      mesh, num_models=shares.members, tasks_per_model=shares.tasks
    )

  if policy is None:
    policy = model_based.make_policy(env, config.policy)
  model_based.check_policy(env, policy)
  policy = model_based.reading(policy, env, config.collect)
  dynamics = model_based.make_dynamics(env, config.model)
  steps = policy_step.make(env, config, policy, dynamics)
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
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
    return jax.tree.map(jnp.copy, state)

  def collect(state: State) -> tuple[State, types.Metrics]:
    """Adds real episodes to the buffer, with random actions at first."""
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
    counters, hyper = state.counters, state.hyper
    key, validation_key, steps_key, std_key = jax.random.split(counters.key, 4)
    progress = learning.learn(
      state.policy,
      jax.random.split(steps_key, config.improve.num_steps),
      lambda theta, key: steps.step(theta, state.model, hyper, key),
      lambda theta: steps.validate(theta, state.model, validation_key),
      section=config.improve,
      worsened_fraction=hyper['improve.worsened_fraction'],
    )
    metrics = learning.summary(progress.values)
    rollouts, members = config.model_rollouts, config.model.num_models
    imagined = progress.step.astype(float) * rollouts.num_rollouts
    imagined += (
      learning.checks(progress, section=config.improve)
      * members
      * config.improve.validation_rollouts
    )
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
      'policy/std': policies.mean_std(
        policy, theta, std_key, env.observation_size
      ),
      'validation/passed': progress.passed.astype(float),
      'validation/failed': progress.failed.astype(float),
      base.STUCK: stuck.astype(float),
    }

  def behaviour(state: State, key: jax.Array) -> types.Params:
    """The policy, repeated for each of the environments."""
    del key
    count = config.collect.num_trajectories
    return jax.tree.map(
      lambda x: jnp.broadcast_to(x, (count, *x.shape)), state.policy
    )

  # If the devices are cores of a CPU, one device is as fast as all, because all
  # would do the same work.
  alone = mesh is not None and backend.is_cpu(mesh) and jax.process_count() == 1
  return base.Algorithm(
    init=init,
    phases={
      base.COLLECT: base.Phase(parallel.replicating(collect, mesh)),
      base.FIT: base.Phase(
        parallel.replicating(functools.partial(fit, mesh=mesh), mesh),
        alone=fit if backend.fits_on_one(mesh) else None,
      ),
      base.IMPROVE: base.Phase(
        parallel.replicating(improve, mesh), alone=improve if alone else None
      ),
    },
    policy=policy,
    policy_params=lambda state: state.policy,
    behaviour=behaviour,
    add=lambda state, trajectory: model_based.store(state, trajectory)[0],
    adapt=None,
    metrics=model_based.metrics(METRICS, config.model),
  )
