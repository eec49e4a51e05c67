"""Bounds on the gap between returns in a model and in the true environment.

M3PO (Hiraoka et al. 2021, table 1) gives two bounds: `c_th1` for whole
rollouts, from the start to the end of an episode, and `c_th2` for branched
rollouts of k steps. eps_m is the model error and eps_pi the policy divergence,
both in total variation, and g is gamma. C_Th1 has the form of theorem 4.1 of
Janner et al. (2019). Their theorem 4.2, on branched rollouts, is
`janner_branched`. GSSM (Wang & van Hoof 2022) bounds the gap between the
returns of a policy in the model and in the environment (lemma 1), and the
regret of the policy that is optimal in the model (theorem 1).

All arguments are numbers or arrays, which broadcast; results have the broadcast
shape. `gamma` is the discount g in (0, 1), `k` is at least 1, the eps are in
[0, 1], and `r_max` > 0 bounds the reward of a step. Other numbers are refused,
unless they are traced.
"""

import jax
import jax.numpy as jnp
import numpy as np


def c_th1(
  *,
  gamma: jax.typing.ArrayLike,
  eps_m: jax.typing.ArrayLike,
  eps_pi: jax.typing.ArrayLike,
  r_max: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
  """C_Th1: bounds the model's return minus the true one, for whole rollouts.

    r_max { 2 g (eps_m + 2 eps_pi) / (1 - g)^2 + 4 eps_pi / (1 - g) }

  Args:
    gamma: g.
    eps_m: model error.
    eps_pi: policy divergence.
    r_max: bound of the reward.

  Raises:
    ValueError: if an argument is outside of its range.

  Example:
    >>> round(float(c_th1(gamma=0.9, eps_m=0.1, eps_pi=0.1)), 3)
    58.0
  """
  gamma, eps_m, eps_pi, r_max = _checked(
    gamma=gamma, eps_m=eps_m, eps_pi=eps_pi, r_max=r_max
  )
  left = 1 - gamma
  model = 2 * gamma * (eps_m + 2 * eps_pi) / jnp.square(left)
  return r_max * (model + 4 * eps_pi / left)


def c_th2(
  *,
  gamma: jax.typing.ArrayLike,
  k: jax.typing.ArrayLike,
  eps_m: jax.typing.ArrayLike,
  eps_pi: jax.typing.ArrayLike,
  r_max: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
  """C_Th2: bounds the model's return minus the true one, for `k`-step branches.

    r_max { 2 eps_pi (1 + g^2) / (1 - g)^2
            + e [ (g - k g^k + (k - 1) g^(k+1)) / (1 - g)^2
                  + (g^k - g) / (g - 1) + (k + 1) g^k / (1 - g) ] }

  with e = eps_m + eps_pi.

  Args:
    gamma: g.
    k: length of a branch.
    eps_m: model error.
    eps_pi: policy divergence.
    r_max: bound of the reward.

  Raises:
    ValueError: if an argument is outside of its range.

  Example:
    >>> round(float(c_th2(gamma=0.9, k=1, eps_m=0.1, eps_pi=0.1)), 3)
    39.8
  """
  gamma, k, eps_m, eps_pi, r_max = _checked(
    gamma=gamma, k=k, eps_m=eps_m, eps_pi=eps_pi, r_max=r_max
  )
  left = 1 - gamma
  power = jnp.power(gamma, k)
  policy = 2 * eps_pi * (1 + jnp.square(gamma)) / jnp.square(left)
  before = (gamma - k * power + (k - 1) * gamma * power) / jnp.square(left)
  within = (power - gamma) / (gamma - 1)
  after = (k + 1) * power / left
  return r_max * (policy + (eps_pi + eps_m) * (before + within + after))


def janner_branched(
  *,
  gamma: jax.typing.ArrayLike,
  k: jax.typing.ArrayLike,
  eps_m: jax.typing.ArrayLike,
  eps_pi: jax.typing.ArrayLike,
  r_max: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
  """Theorem 4.2 of Janner et al. (2019): the bound for `k`-step branches.

    2 r_max { g^(k+1) eps_pi / (1 - g)^2 + (g^k + 2) eps_pi / (1 - g)
              + k (eps_m + 2 eps_pi) / (1 - g) }

  Args:
    gamma: g.
    k: length of a branch.
    eps_m: model error.
    eps_pi: policy divergence.
    r_max: bound of the reward.

  Raises:
    ValueError: if an argument is outside of its range.

  Example:
    >>> round(float(janner_branched(gamma=0.9, k=1, eps_m=0.1, eps_pi=0.1)), 3)
    28.0
  """
  gamma, k, eps_m, eps_pi, r_max = _checked(
    gamma=gamma, k=k, eps_m=eps_m, eps_pi=eps_pi, r_max=r_max
  )
  left = 1 - gamma
  power = jnp.power(gamma, k)
  policy = gamma * power * eps_pi / jnp.square(left)
  inner = (power + 2) * eps_pi + k * (eps_m + 2 * eps_pi)
  return 2 * r_max * (policy + inner / left)


def gssm_gap(
  *,
  gamma: jax.typing.ArrayLike,
  eps: jax.typing.ArrayLike,
  r_max: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
  """Lemma 1: 2 eps r_max / (1 - gamma)^2 bounds E |J_model - J|.

  J_model is the return in the model, J the return in the environment.

  Args:
    gamma: the discount.
    eps: bound of the model's error over tasks, in total variation.
    r_max: bound of the reward.

  Raises:
    ValueError: if an argument is outside of its range.

  Example:
    >>> round(float(gssm_gap(gamma=0.9, eps=0.1)), 3)
    20.0
  """
  gamma, eps, r_max = _checked(gamma=gamma, eps=eps, r_max=r_max)
  return 2 * eps * r_max / jnp.square(1 - gamma)


def gssm_regret(
  *,
  gamma: jax.typing.ArrayLike,
  eps: jax.typing.ArrayLike,
  r_max: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
  """Theorem 1: 4 eps r_max / (1 - gamma)^2 bounds the regret.

  The regret is that of the policy that is optimal in the model, when it acts in
  the environment.

  Args:
    gamma: the discount.
    eps: bound of the model's error over tasks, in total variation.
    r_max: bound of the reward.

  Raises:
    ValueError: if an argument is outside of its range.

  Example:
    >>> round(float(gssm_regret(gamma=0.9, eps=0.1)), 3)
    40.0
  """
  return 2 * gssm_gap(gamma=gamma, eps=eps, r_max=r_max)


def _checked(**values: jax.typing.ArrayLike) -> list[jax.Array]:
  """The values as arrays, those that are not traced within their ranges."""
  ranges = {
    'gamma': ('in (0, 1)', lambda x: (x > 0) & (x < 1)),
    'k': ('>= 1', lambda x: x >= 1),
    'r_max': ('> 0', lambda x: x > 0),
  }
  share = ('in [0, 1]', lambda x: (x >= 0) & (x <= 1))
  for name, value in values.items():
    allowed, within = ranges.get(name, share)
    # As computed with: 1 - 1e-9 is 1 in single precision.
    number = jnp.asarray(value)
    if isinstance(number, jax.core.Tracer):
      continue
    if not np.all(within(np.asarray(number))):
      raise ValueError(f'{name}={value}: must be {allowed}')
  return [jnp.asarray(value) for value in values.values()]
