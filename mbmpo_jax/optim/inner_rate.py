"""An inner step size that bounds the KL by which adaptation moves the policy.

Let g be the gradient of task i's inner objective at theta and F the Fisher
matrix of pi_theta on its rollouts T_i. To second order, the step alpha g moves
the policy by a mean KL of alpha^2 g'F g / 2. The step size

  alpha_i = alpha min(1, sqrt(2 delta / (alpha^2 g'F g)))

keeps this KL within delta. With a constant step size the KL grows as the
policy's standard deviation sigma shrinks: g grows with 1 / sigma, F with
1 / sigma^2, and the KL with 1 / sigma^4.

alpha_i is computed from the rollouts at theta, and is a constant when the outer
objective is differentiated. Therefore theta_i' = theta + alpha_i grad
L_i(theta) still has a symmetric Jacobian.
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
  """The step size alpha_i of one task, a scalar in (0, alpha].

  Args:
    policy: must have a density.
    params: theta.
    trajectory: T_i, `[T, N, ...]`, rollouts of theta.
    advantages: A_i, `[T, N]`.
    inner_lr: alpha.
    max_kl: delta, in nats.
    objective: see `maml.inner_objective`.
  """
  chex.assert_rank([trajectory.obs, trajectory.action], 3)
  chex.assert_equal_shape([trajectory.mask, advantages])
  gradient = jax.grad(maml.inner_objective, 1)(
    policy, params, trajectory, advantages, objective=objective
  )
  about = fisher_lib.products(policy, params, trajectory)
  curved = about.quadratic(about.record(params, trajectory), gradient)
  kl = jnp.square(inner_lr) * curved / 2
  # A task whose gradient is not finite is left out, whatever its step size.
  scale = jnp.where(kl > max_kl, jnp.sqrt(max_kl / kl), 1.0)
  return jax.lax.stop_gradient(inner_lr * scale)
