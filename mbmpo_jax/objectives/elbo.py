"""The evidence lower bound of models that infer a task from a context.

The loss for T targets of one task with context C is (Wang & van Hoof 2022,
equation 10)

  L = sum_t [ -1/K sum_k log p(y_t | x_t, z_tk) + KL(q(z_t) || q(z_c)) ],

where the z_tk are K reparameterised samples of q(z_t). Some models have one z
for the whole task, as neural processes do (Garnelo et al. 2018). Its K samples
are then shared by all targets, and the KL divergence is counted once. L is
divided by T, so that the size of a gradient step does not depend on the number
of targets.
"""

from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.models import permutations
from mbmpo_jax.models.neural_process import sets


class Network(Protocol):
  """A flax module of `models/neural_process/`.

  Three methods are called through `apply`:

    encode(context [C])                       -> encoding, with q(z_c) [Z]
    posterior(encoding, context, targets [T]) -> q(z) [T, Z], or [1, Z]
    decode(encoding, x [T, I], z [K, T, Z])   -> p(y | x, z) [K, T, O]

  Without `per_target`, posteriors and samples have 1 in place of T.
  """

  @property
  def per_target(self) -> bool:
    """Whether every target has its own z; otherwise the task has one z."""
    ...

  def apply(self, variables: types.Params, *args: Any, method: str) -> Any:
    """`flax.linen.Module.apply`."""
    ...


class Info(NamedTuple):
  """The two terms of the loss, per target."""

  nll: jax.Array  # -log p, mean over targets and particles
  kl: jax.Array  # sum of KL(q(z_*) || q(z_c)) over the number of targets


def loss(
  network: Network,
  params: types.Params,
  context: sets.Points,
  targets: sets.Points,
  key: jax.Array,
  *,
  num_particles: int,
  kl_weight: jax.Array | float = 1.0,
) -> tuple[jax.Array, Info]:
  """The loss L / T of one task, a scalar; use `jax.vmap` over tasks.

  Args:
    network: the model.
    params: its parameters.
    context: `[C, ...]`, masked.
    targets: `[T, ...]`, masked; the loss is 0 without live targets.
    key: consumed, to sample z.
    num_particles: K.
    kl_weight: factor of the KL term; 1 in equation 10.

  Returns:
    The loss and its two terms.
  """
  chex.assert_rank([context.x, context.y, context.mask], [2, 2, 1])
  chex.assert_rank([targets.x, targets.y, targets.mask], [2, 2, 1])
  chex.assert_equal_shape_prefix(targets, 1)
  targets = sets.live(targets)
  mask = targets.mask
  encoding = network.apply(params, context, method='encode')
  posterior = network.apply(
    params, encoding, context, targets, method='posterior'
  )
  noise = jax.random.normal(
    key, (num_particles, *posterior.mean.shape), posterior.mean.dtype
  )
  z = posterior.mean[None] + jnp.exp(posterior.log_std)[None] * noise
  density = network.apply(params, encoding, targets.x, z, method='decode')
  log_p = jnp.mean(density.log_prob(targets.y[None]), 0)
  prior = jax.tree.map(lambda x: x[None], encoding.latent)
  kl = posterior.kl(prior)
  count = jnp.maximum(jnp.sum(mask), 1)
  # If the task has one z, its divergence has the shape [1].
  weight = mask if network.per_target else jnp.any(mask > 0)[None]
  info = Info(
    nll=-jnp.sum(jnp.where(mask > 0, log_p, 0.0)) / count,
    kl=jnp.sum(jnp.where(weight > 0, kl, 0.0)) / count,
  )
  return info.nll + kl_weight * info.kl, info


def split(
  points: sets.Points,
  key: jax.Array,
  *,
  context_size: int,
  target_size: int,
  min_context: jax.Array | int = 1,
  max_context: jax.Array | int | None = None,
  min_targets: int = 1,
) -> tuple[sets.Points, sets.Points]:
  """Splits a task's points at random into a context and targets.

  The number of context points is uniform between `min_context` and
  `max_context`. Both limits are lowered, if necessary, so that `min_targets`
  live points remain. The targets are disjoint from the context: all remaining
  live points, up to `target_size`. The arguments may be traced, except
  `context_size` and `target_size`.

  Args:
    points: of one task, `[B, ...]`, masked.
    key: consumed.
    context_size: C, the size of the context array.
    target_size: T, the size of the target array.
    min_context: the least number of context points.
    max_context: the greatest number of context points; `context_size` by
      default and at most.
    min_targets: live points that are reserved for the targets, as far as there
      are any.

  Returns:
    The context `[C, ...]` and the targets `[T, ...]`.
  """
  chex.assert_rank([points.x, points.y, points.mask], [2, 2, 1])
  order_key, count_key = jax.random.split(key)
  order = permutations.permutation(order_key, points.mask > 0)
  num_live = jnp.sum(points.mask > 0, dtype=jnp.int32)
  most = context_size if max_context is None else max_context
  most = jnp.minimum(most, context_size)
  most = jnp.minimum(most, jnp.maximum(num_live - min_targets, 0))
  least = jnp.minimum(min_context, most)
  count = jax.random.randint(count_key, (), least, most + 1)

  def take(place: jax.Array, alive: jax.Array) -> sets.Points:
    rows = order[jnp.minimum(place, order.shape[0] - 1)]
    x, y = points.x[rows], points.y[rows]
    return sets.live(sets.Points(x, y, alive.astype(points.mask.dtype)))

  place = jnp.arange(context_size)
  context = take(place, place < count)
  place = count + jnp.arange(target_size)
  return context, take(place, place < num_live)
