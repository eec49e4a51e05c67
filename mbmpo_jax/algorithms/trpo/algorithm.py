"""TRPO: trust-region policy optimisation (Schulman et al. 2015, 1502.05477).

  algorithm = algorithms.make('trpo', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

The only phase steps the environments, takes one trust-region step of the policy
(`optim/trpo.py`), and then fits the value network to the returns.
"""

import copy
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import minibatches
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.trpo import config as config_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.objectives import ppo
from mbmpo_jax.optim import fisher
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import base as policies

METRICS = {
  **on_policy.METRICS,
  'policy/surrogate_gain': base.Metric(
    'increase of the surrogate objective by the step, 0 if the step was'
    ' rejected'
  ),
  'policy/accept_rate': base.Metric('1 if the step was accepted, otherwise 0'),
  'policy/backtracks': base.Metric(
    'number of times that the line search shortened the step: 0 for the full'
    ' step, -1 if no step was tried'
  ),
}
State = on_policy.State


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
    env: the real environment.
    config: hyperparameters; copied.
    policy: any policy with a density, in place of `config.policy`. It must have
      no memory, or pass it on as its actions' extras.
    mesh: devices on which the state is replicated; each does all the work.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  made = on_policy.parts(env, config, policy)
  region = config.trust_region

  def start(theta: types.Params, value: types.Params, hyper: base.Hyper) -> Any:
    del theta
    adam = minibatches.optimizer(config.value, hyper['value.learning_rate'])
    return adam.init(value)

  def value_loss(params: types.Params, batch: on_policy.Batch) -> jax.Array:
    trajectory = batch.trajectory
    values = made.value(params, trajectory.obs)
    return ppo.value_loss(values, batch.targets, trajectory.mask)

  def improve(
    state: State, batch: on_policy.Batch, key: jax.Array
  ) -> on_policy.Improved:
    hyper = state.hyper
    theta, info = trpo.trpo_step(
      state.policy,
      fisher.differentiate(
        made.policy, state.policy, batch.trajectory, batch.advantages
      ),
      max_kl=hyper['trust_region.max_kl'],
      cg_iterations=region.cg_iterations,
      damping=hyper['trust_region.damping'],
      backtrack_ratio=region.backtrack_ratio,
      max_backtracks=region.max_backtracks,
    )
    value, optimizer, taken = minibatches.descend(
      value_loss,
      state.value,
      state.optimizer,
      batch,
      key,
      section=config.value,
      learning_rate=hyper['value.learning_rate'],
    )
    updates = config.value.num_epochs * config.value.num_minibatches
    failed = ~info.finite | (~info.accepted & (info.non_finite_kl > 0))
    return on_policy.Improved(
      theta,
      value,
      optimizer,
      {
        'policy/kl': info.kl,
        'policy/surrogate_gain': info.surrogate_gain,
        'policy/accept_rate': info.accepted.astype(float),
        'policy/backtracks': info.backtracks.astype(float),
        'nonfinite/updates': jnp.asarray(updates - taken + failed, float),
      },
      taken + info.accepted,
    )

  return on_policy.algorithm(
    env, config, made, start, improve, METRICS, mesh=mesh
  )
