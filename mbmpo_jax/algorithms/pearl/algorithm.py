"""PEARL (Rakelly et al. 2019), for tasks that change within an episode.

  algorithm = algorithms.make('pearl', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

This is SAC (`algorithms/sac`) with a latent z as an additional input of policy
and critics. An encoder infers z from the last W transitions of the episode, and
is trained by the critics' loss.
"""

import copy
import functools

import jax

from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import rounds
from mbmpo_jax.algorithms.pearl import batches
from mbmpo_jax.algorithms.pearl import config as config_lib
from mbmpo_jax.algorithms.pearl import learner as learner_lib
from mbmpo_jax.algorithms.pearl import networks as networks_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import inferring

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

  Args:
    env: the real environment, of a task family, with continuous actions.
    config: hyperparameters; copied.
    mesh: devices on which the state is replicated; each does all the work.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
    envs.TaskError: if it has no tasks.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  off_policy.check_actions(env)
  envs.family_of(env, config.algorithm)
  policy, networks = networks_lib.make(env, config)
  acting, acting_params = inputs.acting(policy, env, config.collect)
  update = functools.partial(
    learner_lib.update,
    networks=networks,
    learn_temperature=config.temperature.learned,
  )

  def policy_params(state: State) -> types.Params:
    learner = state.learner
    learned = inferring.Params(learner.encoder, learner.sac.policy)
    return acting_params(learned, state.moments)

  def behave(state: State) -> tuple[policies.Policy, types.Params]:
    return acting, policy_params(state)

  round_fn = rounds.of_transitions(
    env,
    config,
    update,
    behave,
    sample=functools.partial(
      batches.sample,
      length=config.context.length,
      num_envs=config.collect.num_envs,
    ),
  )
  return base.Algorithm(
    init=rounds.make_init(
      env,
      config.collect,
      functools.partial(
        learner_lib.init, networks, observation_size=env.observation_size
      ),
      behave,
      tuple(learner_lib.METRICS),
    ),
    phases={base.LEARN: rounds.phase(round_fn, config, mesh=mesh)},
    policy=acting,
    policy_params=policy_params,
    behaviour=None,
    add=off_policy.add,
    adapt=None,
    metrics=METRICS,
  )
