"""A task's rollouts as samples, and the policy's distribution over them.

Samples are the last axis of all arrays here, [..., B] with B = T N, as in
`policies/network.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.policies import gaussian

# (mean [B, A], log_std [A]) -> distribution, whose mean is `mean`
Head = Callable[..., gaussian.Gaussian]


class Samples(NamedTuple):
  """A task's rollouts, zero where masked."""

  obs: jax.Array  # [O, B]
  action: jax.Array  # [A, B]
  log_prob: jax.Array  # [B]
  advantages: jax.Array  # [B]
  mask: jax.Array  # [B]


def of(trajectory: types.Trajectory, advantages: jax.Array) -> Samples:
  """The samples of `trajectory` [T, N, ...] and its `advantages` [T, N]."""
  mask = trajectory.mask
  return Samples(
    obs=_flat(masking.live(trajectory.obs, mask)).T,
    action=_flat(masking.live(trajectory.action, mask)).T,
    log_prob=_flat(masking.live(trajectory.log_prob, mask)),
    advantages=_flat(masking.live(advantages, mask)),
    mask=_flat(mask),
  )


def distribution(
  mean: jax.Array, log_std: jax.Array, *, head: Head
) -> gaussian.Gaussian:
  """From a network's output `[A, B]` and `log_std` [A]; deviations [A, 1]."""
  return gaussian.Gaussian(mean, head(mean.T, log_std).log_std.T)


def pull_back(
  mean: jax.Array,
  log_std: jax.Array,
  cotangent: gaussian.Gaussian,
  *,
  head: Head,
) -> tuple[jax.Array, jax.Array]:
  """The cotangents of `distribution`'s `mean` and `log_std`.

  Args:
    mean: the network's output, `[A, B]`.
    log_std: `[A]`.
    cotangent: of its result, (mu [A, B], log sigma [A, 1]).
    head: as there.
  """

  def distribution_of(mean: jax.Array, log_std: jax.Array) -> gaussian.Gaussian:
    return distribution(mean, log_std, head=head)

  return jax.vjp(distribution_of, mean, log_std)[1](cotangent)


def _flat(x: jax.Array) -> jax.Array:
  """One axis in place of the first two, of time and rollouts [T, N]."""
  return x.reshape(-1, *x.shape[2:])
