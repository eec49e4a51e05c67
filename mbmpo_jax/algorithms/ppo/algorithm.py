"""PPO: proximal policy optimisation (Schulman et al. 2017, 1707.06347).

  algorithm = algorithms.make('ppo', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

The only phase steps the environments and minimises, by minibatches,

  -L_clip + value_coef L_value - entropy_coef H.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import minibatches
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.ppo import config as config_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.objectives import policy_gradient
from mbmpo_jax.objectives import ppo
from mbmpo_jax.policies import base as policies

METRICS = {
  **on_policy.METRICS,
  'policy/clip_fraction': base.Metric(
    'share of steps whose probability ratio of new and old policy is outside'
    ' the clip range after the update'
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
  return build(env, config, made, loss, METRICS, mesh=mesh)


def build(
  env: envs_base.Environment,
  config: config_lib.Config,
  made: on_policy.Parts,
  loss: Callable[..., jax.Array],
  metrics: dict[str, base.Metric],
  *,
  measure: Callable[..., types.Metrics] = lambda params, batch: {},
  mesh: jax.sharding.Mesh | None = None,
) -> base.Algorithm:
  """Builds PPO with given networks and loss.

  Args:
    env: the real environment.
    config: of the experiment.
    made: the networks.
    loss: a function like `loss`.
    metrics: all metrics that are reported, including `METRICS`.
    measure: what is reported beside `METRICS`, a function of the parameters of
      policy and value network after the update and of the whole batch.
    mesh: devices on which the state is replicated; each does all the work.
  """

  def start(theta: types.Params, value: types.Params, hyper: base.Hyper) -> Any:
    adam = minibatches.optimizer(config.learn, hyper['learn.learning_rate'])
    return adam.init((theta, value))

  def improve(
    state: State, batch: on_policy.Batch, key: jax.Array
  ) -> on_policy.Improved:
    hyper = state.hyper
    loss_fn = functools.partial(loss, made=made, hyper=hyper)
    (theta, value), optimizer, taken = minibatches.descend(
      loss_fn,
      (state.policy, state.value),
      state.optimizer,
      batch,
      key,
      section=config.learn,
      learning_rate=hyper['learn.learning_rate'],
    )
    clipped = ppo.clipped_surrogate(
      policy_gradient.over(made.policy, theta, batch.trajectory),
      batch.trajectory,
      batch.advantages,
      clip_range=hyper['learn.clip_range'],
    )
    updates = config.learn.num_epochs * config.learn.num_minibatches
    return on_policy.Improved(
      theta,
      value,
      optimizer,
      {
        'policy/kl': clipped.kl,
        'policy/clip_fraction': clipped.clip_fraction,
        'nonfinite/updates': jnp.asarray(updates - taken, float),
        **measure((theta, value), batch),
      },
      taken,
    )

  return on_policy.algorithm(
    env, config, made, start, improve, metrics, mesh=mesh
  )


def loss(
  params: tuple[types.Params, types.Params],
  batch: on_policy.Batch,
  *,
  made: on_policy.Parts,
  hyper: base.Hyper,
) -> jax.Array:
  """The loss of a minibatch, a scalar.

  Args:
    params: of policy and value network.
    batch: one minibatch.
    made: the networks.
    hyper: clip range and weights.
  """
  theta, value_params = params
  trajectory = batch.trajectory
  dist = policy_gradient.over(made.policy, theta, trajectory)
  clipped = ppo.clipped_surrogate(
    dist,
    trajectory,
    batch.advantages,
    clip_range=hyper['learn.clip_range'],
  )
  values = made.value(value_params, trajectory.obs)
  return (
    hyper['learn.value_coef']
    * ppo.value_loss(values, batch.targets, trajectory.mask)
    - clipped.surrogate
    - hyper['learn.entropy_coef']
    * policy_gradient.mean_entropy(dist, trajectory.mask)
  )
