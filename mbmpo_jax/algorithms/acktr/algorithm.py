"""ACKTR: actor-critic by Kronecker-factored trust regions (Wu et al. 2017).

This is section 4 of arXiv 1708.05144.

  algorithm = algorithms.make('acktr', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

The only phase steps the environments, and takes one policy step with the
Kronecker factors of the policy's Fisher matrix (`optim/kfac.py`). The value
network takes steps with the factors of its Gauss-Newton matrix. This is the
Fisher matrix of a Gaussian of constant deviation around the value.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import config as shared
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.acktr import config as config_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import spaces
from mbmpo_jax.objectives import policy_gradient
from mbmpo_jax.objectives import ppo
from mbmpo_jax.optim import kfac
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import gaussian

METRICS = {
  **on_policy.METRICS,
  'policy/step_length': base.Metric(
    "scale factor of the policy's K-FAC step; 1 is the full natural-gradient"
    ' step'
  ),
  'policy/predicted_kl': base.Metric(
    "KL divergence of the policy's step as predicted by the Kronecker-factored"
    ' Fisher matrix, in nats'
  ),
  'value/step_length': base.Metric(
    "scale factor of the value network's last K-FAC step in the iteration; 1 is"
    ' the full Gauss-Newton step'
  ),
}
State = on_policy.State

# The Fisher matrix of a Gaussian's log-deviation is 2 I.
_FISHER_OF_LOG_STD = 2.0


class Optimizers(NamedTuple):
  """The optimiser states of policy and value network."""

  policy: kfac.State
  value: kfac.State


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
    policy: must be `None`: the factors are of the layers of `config.policy`.
    mesh: devices on which the state is replicated; each does all the work.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  if policy is not None:
    raise shared.ConfigError(
      'policy: must be None for ACKTR, which optimises the network of'
      ' config.policy; TRPO takes any policy with a density'
    )
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  made = on_policy.parts(env, config, None)
  to_distribution = _to_distribution(env, config)

  def start(
    theta: types.Params, value: types.Params, hyper: base.Hyper
  ) -> Optimizers:
    return Optimizers(
      policy_optimizer(hyper).init(theta),
      value_optimizer(hyper, jnp.ones(())).init(value),
    )

  def improve(
    state: State, batch: on_policy.Batch, key: jax.Array
  ) -> on_policy.Improved:
    trajectory, theta = batch.trajectory, state.policy
    mask = trajectory.mask.reshape(-1)
    obs = trajectory.obs.reshape(mask.size, -1)
    old = policy_gradient.over(made.policy, theta, trajectory)

    def policy_loss(theta: types.Params) -> jax.Array:
      dist = policy_gradient.over(made.policy, theta, trajectory)
      return -policy_gradient.surrogate(dist, trajectory, batch.advantages)

    theta, policy_state, policy_taken = _step(
      policy_optimizer(state.hyper),
      theta,
      state.optimizer.policy,
      jax.grad(policy_loss)(theta),
      kfac.record(
        theta,
        obs,
        kfac.sampled(
          lambda outputs: to_distribution(state.policy, outputs),
          made.policy.noise(key, mask.shape),
        ),
        diagonal=_FISHER_OF_LOG_STD,
        mask=mask,
      ),
    )

    def value_loss(params: types.Params) -> jax.Array:
      values = made.value(params, trajectory.obs)
      return ppo.value_loss(values, batch.targets, trajectory.mask)

    def value_step(carry: Any, _: None) -> tuple[Any, None]:
      params, optimizer_state, num = carry
      loss, gradient = jax.value_and_grad(value_loss)(params)
      params, optimizer_state, taken = _step(
        value_optimizer(state.hyper, 2 * loss),
        params,
        optimizer_state,
        gradient,
        # The Fisher factors of a Gaussian with deviation 1 around the output.
        kfac.record(params, obs, jnp.sum, mask=mask),
      )
      return (params, optimizer_state, num + taken), None

    (value, value_state, value_taken), _ = jax.lax.scan(
      value_step,
      (state.value, state.optimizer.value, jnp.zeros((), jnp.int32)),
      length=config.value_step.num_steps,
    )
    taken = value_taken + policy_taken
    updates = config.value_step.num_steps + 1
    new = policy_gradient.over(made.policy, theta, trajectory)
    return on_policy.Improved(
      theta,
      value,
      Optimizers(policy_state, value_state),
      {
        'policy/kl': policy_gradient.mean_kl(old, new, trajectory.mask),
        'policy/step_length': policy_state.length,
        'policy/predicted_kl': policy_state.kl,
        'value/step_length': value_state.length,
        'nonfinite/updates': jnp.asarray(updates - taken, float),
      },
      taken,
    )

  return on_policy.algorithm(
    env, config, made, start, improve, METRICS, mesh=mesh
  )


def policy_optimizer(
  hyper: base.Hyper,
) -> optax.GradientTransformationExtraArgs:
  """The policy's K-FAC optimiser."""
  return _optimizer(hyper, 'policy_step', hyper['policy_step.max_kl'])


def value_optimizer(
  hyper: base.Hyper, variance: jax.Array
) -> optax.GradientTransformationExtraArgs:
  """The value network's K-FAC optimiser, independent of the unit of rewards.

  The KL between Gaussians around two values is (V - V')^2 / (2 sigma^2). The
  factors are those for sigma = 1, so that damping does not depend on sigma. The
  trust region uses the sigma with the greatest likelihood of the returns.

  Args:
    hyper: numeric hyperparameters.
    variance: sigma^2, the mean squared error of the values.
  """
  return _optimizer(hyper, 'value_step', hyper['value_step.max_kl'] * variance)


def _optimizer(
  hyper: base.Hyper, section: str, max_kl: jax.Array
) -> optax.GradientTransformationExtraArgs:
  return kfac.kfac(
    hyper[f'{section}.max_length'],
    max_kl=max_kl,
    damping=hyper[f'{section}.damping'],
    decay=hyper[f'{section}.decay'],
    momentum=hyper[f'{section}.momentum'],
  )


def _step(
  optimizer: optax.GradientTransformationExtraArgs,
  params: types.Params,
  state: kfac.State,
  gradient: types.Params,
  samples: Any,
) -> tuple[types.Params, kfac.State, jax.Array]:
  """Takes a step if it is finite: parameters, state, and whether it was."""
  changes, after = optimizer.update(gradient, state, params, samples=samples)
  moved = optax.apply_updates(params, changes)
  finite = masking.all_finite((gradient, moved, after))
  params, state = jax.tree.map(
    lambda new, old: jnp.where(finite, new, old),
    (moved, after),
    (params, state),
  )
  return params, state, finite.astype(jnp.int32)


def _to_distribution(
  env: envs_base.Environment, config: config_lib.Config
) -> Callable[[types.Params, jax.Array], Any]:
  """A function (theta, outputs [B, ...]) -> the policy's distribution [B]."""
  section = config.policy
  if isinstance(env.action_space, spaces.Discrete):
    return lambda theta, outputs: distributions.Categorical(outputs)
  return lambda theta, outputs: gaussian.to_distribution(
    outputs,
    theta['log_std'],
    min_std=section.min_std,
    learn_std=section.learn_std,
  )
