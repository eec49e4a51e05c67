"""A diagonal Gaussian policy whose mean is a tanh network.

pi_theta(a | s) = N(a; mu(s), diag(sigma^2)), with mu a multilayer perceptron
and a log sigma that does not depend on the state (Clavera et al. 2018, A.3).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import broadcasting
from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import mlp
from mbmpo_jax.policies import samples_last


def make(
  observation_size: int, action_size: int, section: config_lib.GaussianPolicy
) -> base.Policy:
  """The policy for given observation and action sizes.

  Args:
    observation_size: O.
    action_size: A.
    section: layer sizes, deviation, and whether the mean is bounded.

  Example:
    >>> policy = make(17, 6, config_lib.GaussianPolicy())
    >>> params = policy.init(jax.random.PRNGKey(0))
    >>> policy.distribution(params, (), jnp.ones((4, 17))).mean.shape
    (4, 6)
  """
  policy = base.memoryless(
    functools.partial(
      init,
      observation_size=observation_size,
      action_size=action_size,
      hidden_sizes=section.hidden_sizes,
      init_std=section.init_std,
    ),
    functools.partial(
      apply,
      min_std=section.min_std,
      learn_std=section.learn_std,
      bound_mean=section.bound_mean,
    ),
    noise=functools.partial(
      distributions.normal_noise, action_size=action_size
    ),
  )
  policy = policy._replace(
    over=functools.partial(
      over,
      min_std=section.min_std,
      learn_std=section.learn_std,
      bound_mean=section.bound_mean,
    )
  )
  if backend.spreads_biases():
    policy = policy._replace(spread=_spread)
  return policy


def init(
  key: jax.Array,
  observation_size: int,
  action_size: int,
  *,
  hidden_sizes: tuple[int, ...],
  init_std: float = 1.0,
) -> types.Params:
  """Xavier-uniform weights, zero biases and deviations of `init_std`.

  Args:
    key: consumed.
    observation_size: O.
    action_size: A.
    hidden_sizes: units of each hidden layer.
    init_std: initial standard deviation.

  Returns:
    `{'layers': [{'w': [in, out], 'b': [out]}, ...], 'log_std': [A]}`.
  """
  return {
    'layers': mlp.init(key, (observation_size, *hidden_sizes, action_size)),
    'log_std': jnp.full(action_size, math.log(init_std), float),
  }


def apply(
  params: types.Params,
  obs: jax.Array,
  *,
  min_std: float = 1e-6,
  learn_std: bool = True,
  bound_mean: bool = False,
) -> distributions.Gaussian:
  """The action distribution at `obs` [..., O].

  Args:
    params: as `init` returns them.
    obs: observations.
    min_std: floor of the standard deviation.
    learn_std: if False, no gradient flows to `log_std`.
    bound_mean: if True, the mean is the tanh of the network's output.
  """
  mean = mlp.apply(params['layers'], obs)
  if bound_mean:
    mean = jnp.tanh(mean)
  return to_distribution(
    mean, params['log_std'], min_std=min_std, learn_std=learn_std
  )


def over(
  params: types.Params,
  trajectory: types.Trajectory,
  *,
  min_std: float = 1e-6,
  learn_std: bool = True,
  bound_mean: bool = False,
) -> samples_last.Gaussian:
  """`apply` at all steps [T, N] of a trajectory, in `samples_last` layout."""
  obs = trajectory.obs
  mean = samples_last.apply(params['layers'], obs.reshape(-1, obs.shape[-1]).T)
  if bound_mean:
    mean = samples_last.tanh(mean)
  dist = to_distribution(
    mean.T, params['log_std'], min_std=min_std, learn_std=learn_std
  )
  return samples_last.Gaussian(mean, dist.log_std.T, obs.shape[:-1])


def to_distribution(
  mean: jax.Array,
  log_std: jax.Array,
  *,
  min_std: float = 1e-6,
  learn_std: bool = True,
) -> distributions.Gaussian:
  """The distribution from the network's output [..., A] and `log_std` [A]."""
  log_std = jnp.maximum(log_std, math.log(min_std))
  if not learn_std:
    log_std = jax.lax.stop_gradient(log_std)
  return distributions.Gaussian(mean, broadcasting.leading(log_std, mean.ndim))


def _spread(
  params: types.Params, shape: tuple[int, ...], per_task: bool
) -> tuple[types.Params, Any]:
  """One bias per rollout; weights stay one set per policy (`mlp.spread`)."""
  axis = 0 if per_task else None
  layers = mlp.spread(params['layers'], shape)
  axes: Any = {
    **dict.fromkeys(params, axis),
    'layers': [{'w': axis, 'b': 0}] * len(layers),
  }
  return {**params, 'layers': layers}, axes
