"""DDPG and TD3: deterministic policies that follow the gradient of a critic.

DDPG is Lillicrap et al. 2016 (1509.02971, algorithm 1). TD3, with
`learn.kind='td3'`, is Fujimoto et al. 2018 (1802.09477, algorithm 1).

  algorithm = algorithms.make('ddpg', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

The only phase alternates environment steps and updates of the networks
(`rounds.py`, `learner.py`). Exploration uses Gaussian noise, as in TD3.
"""

import copy
import functools

import jax

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import rounds
from mbmpo_jax.algorithms.ddpg import config as config_lib
from mbmpo_jax.algorithms.ddpg import learner as learner_lib
from mbmpo_jax.algorithms.ddpg import networks as networks_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import squashed

METRICS = {**off_policy.METRICS, **learner_lib.METRICS}
State = off_policy.State


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Builds the algorithm for an environment.

  Its `policy` is the deterministic one, without exploration noise.

  Args:
    env: the real environment, with continuous actions.
    config: hyperparameters; copied.
    mesh: devices on which the state is replicated; each does all the work.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  off_policy.check_actions(env)
  networks = networks_lib.make(env, config)
  policy, acting_params = inputs.acting(networks.policy, env, config.collect)

  def policy_params(state: State) -> types.Params:
    return acting_params(state.learner.nets.policy, state.moments)

  def behave(state: State) -> tuple[policies.Policy, types.Params]:
    noisy = squashed.exploring(policy, state.hyper['policy.exploration_std'])
    return noisy, policy_params(state)

  update = functools.partial(
    learner_lib.update, networks=networks, section=config.learn
  )
  phase = rounds.phase(
    rounds.of_transitions(env, config, update, behave), config, mesh=mesh
  )
  return base.Algorithm(
    init=rounds.make_init(
      env,
      config.collect,
      functools.partial(learner_lib.init, networks),
      behave,
      tuple(learner_lib.METRICS),
    ),
    phases={base.LEARN: phase},
    policy=policy,
    policy_params=policy_params,
    behaviour=None,
    add=off_policy.add,
    adapt=None,
    metrics=METRICS,
  )
