"""The step size of an adaptation that may move the policy only so far.

With g the gradient of task i's inner objective at theta and F the Fisher matrix
of pi_theta on its rollouts T_i, the step alpha g moves the policy by a mean KL
of alpha^2 g'F g / 2, to second order. The rate

  alpha_i = alpha min(1, sqrt(2 delta / (alpha^2 g'F g)))

keeps that within delta. Without it a step of one size moves the policy the
further the smaller its deviation is: g grows with 1 / sigma, F with 1 /
sigma^2, and so the KL with 1 / sigma^4.

The rate is a number of the rollouts, chosen at theta and held while the outer
objective is differentiated: theta_i' = theta + alpha_i grad L_i(theta) has a
symmetric Jacobian still.
"""

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.objectives import maml
from mbmpo_jax.optim import fisher as fisher_lib
from mbmpo_jax.policies import base


def bounded(
  policy: base.Policy,
  params: types.Params,
  trajectory: types.Trajectory,
  advantages: jax.Array,
  *,
  inner_lr: jax.Array | float,
  max_kl: jax.Array | float,
  objective: str = 'log_likelihood',
) -> jax.Array:
  """alpha_i of one task, a scalar in (0, alpha].

  Args:
    policy: with a density.
    params: theta.
    trajectory: T_i, `[T, N, ...]`, rollouts of theta.
    advantages: A_i, `[T, N]`.
    inner_lr: alpha.
    max_kl: delta, in nats.
    objective: as in `maml.inner_objective`.
  """
  chex.assert_rank([trajectory.obs, trajectory.action], 3)
  chex.assert_equal_shape([trajectory.mask, advantages])
  gradient = jax.grad(maml.inner_objective, 1)(
    policy, params, trajectory, advantages, objective=objective
  )
  about = fisher_lib.products(policy, params, trajectory)
  curved = about.quadratic(about.record(params, trajectory), gradient)
  kl = jnp.square(inner_lr) * curved / 2
  # Where the gradient is not finite the task is left out, whatever the rate.
  scale = jnp.where(kl > max_kl, jnp.sqrt(max_kl / kl), 1.0)
  return jax.lax.stop_gradient(inner_lr * scale)
