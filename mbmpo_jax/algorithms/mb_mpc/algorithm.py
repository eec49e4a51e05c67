"""MB-MPC: model-based model-predictive control (Nagabandi et al. 2017, alg. 1).

  algorithm = algorithms.make('mb_mpc', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

An iteration collects episodes and fits the ensemble to all data so far. The
first episodes have random actions; later ones use a planner
(`policies/planner.py`). The planner's only learned parameters are the ensemble.
"""

import copy
import functools

import jax

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import planning
from mbmpo_jax.algorithms.mb_mpc import config as config_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base as policies

METRICS = planning.METRICS


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Builds the algorithm for an environment.

  Args:
    env: the real environment, whose reward and termination are known.
    config: hyperparameters; copied.
    mesh: devices over which environments and fit are distributed, from
      `training.devices.make_mesh`. States are replicated.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  model_based.check_imagined(env, config.model, config.algorithm)
  dynamics = model_based.make_dynamics(env, config.model)

  def fit(
    state: planning.State, mesh: jax.sharding.Mesh | None
  ) -> tuple[planning.State, types.Metrics]:
    return model_based.fit(
      state, env=env, section=config.model, dynamics=dynamics, mesh=mesh
    )

  return planning.make(
    env,
    config,
    planning.Learner(
      policy=make_planner(env, dynamics, config),
      world=functools.partial(
        _world, env, dynamics, config.collect.buffer_capacity
      ),
      fit=fit,
      metrics=model_based.metrics(METRICS, config.model),
    ),
    mesh=mesh,
  )


def make_planner(
  env: envs_base.Environment,
  dynamics: models.Dynamics,
  config: config_lib.Config,
) -> policies.Policy:
  """The planner of `config.planner`, with models of `dynamics`."""
  return planning.make_policy(
    env, config, dynamics, functools.partial(_world, env, dynamics, 1)
  )


def _world(
  env: envs_base.Environment,
  dynamics: models.Dynamics,
  buffer_capacity: int,
  key: jax.Array,
  hyper: base.Hyper,
) -> model_based.World:
  return model_based.init(
    env, dynamics, hyper, key, buffer_capacity=buffer_capacity
  )
