"""The outer objective about theta: its gradient, and the kl's curvature.

For the tanh network of `policies/network.py`, from what one forward and one
backward pass per task leave behind. At theta, with g_i the gradient of task i's
surrogate at theta_i' and F_i the Fisher matrix there,

  gradient = mean_i J_i^T g_i,    H v = mean_i J_i^T F_i J_i v,
  J_i = I + alpha Hessian of L_i,
  F_i = mean over T_i' of D^T diag(1 / sigma^2, 2) D, D the Jacobian of
        (mu, log sigma),

symbols as in `maml`. The kl is at its minimum at theta, so that H is its whole
Hessian. A product costs two inner Hessian products, one forward and one reverse
derivative of the network, nothing nested deeper.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.optim import maml
from mbmpo_jax.policies import gaussian
from mbmpo_jax.policies import network

# (mean [B, A], log_std [A]) -> distribution
Head = Callable[..., gaussian.Gaussian]


class MetaGradient(NamedTuple):
  """The outer objective and its derivatives at theta."""

  surrogate: jax.Array
  gradient: types.Params  # of the surrogate
  curvature: Callable[[types.Params], types.Params]  # v -> H v


class _Inner(NamedTuple):
  """What L_i's derivatives at theta are made of; samples lead, [B, ...]."""

  tape: network.Tape
  backward: network.Cotangents
  # (change of mean, of log sigma) -> change of L_i's derivatives by them
  output_hessian: Callable[..., tuple[jax.Array, jax.Array]]


class _Outer(NamedTuple):
  """What the derivatives at theta_i' are made of; samples lead, [B, ...]."""

  adapted: types.Params
  mask: jax.Array
  mean: jax.Array
  tape: network.Tape


def at(
  policy_params: types.Params,
  batch: maml.MetaBatch,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
  entropy_coef: jax.Array | float = 0.0,
  head: Head = gaussian.head,
) -> MetaGradient:
  """Differentiates `maml.meta_objective` of `batch` at `policy_params`.

  Args:
    policy_params: theta, as `gaussian.init` returns it.
    batch: sampled at theta.
    inner_lr: alpha.
    objective: of the inner step.
    entropy_coef: weight of the adapted policies' mean entropy.
    head: `(mean, log_std) -> distribution`.
  """
  batch = maml.mask_weightless(batch)
  layers, log_std = policy_params['layers'], policy_params['log_std']

  def record_inner(pre: types.Trajectory, advantages: jax.Array) -> _Inner:
    steps = masking.live_steps(_flat(pre))
    advantages = _flat(advantages)

    def gain(mean: jax.Array, log_std: jax.Array) -> jax.Array:
      return maml.inner_gain(
        head(mean, log_std), steps, advantages, objective=objective
      )

    mean, tape = network.record(layers, steps.obs)
    # A Hessian is symmetric: its reverse derivative is as good as its forward
    # one, and can be kept.
    (cotangent, _), output_hessian = jax.vjp(
      jax.grad(gain, (0, 1)), mean, log_std
    )
    _, backward = network.pull_back(layers, tape, cotangent)
    return _Inner(tape, backward, output_hessian)

  def adaptation_product(inner: _Inner, v: types.Params) -> types.Params:
    """J_i v."""
    change, changes = network.push_forward(layers, inner.tape, v['layers'])
    cotangent_change, log_std_change = inner.output_hessian(
      (change, v['log_std'])
    )
    hessian_product = {
      'layers': network.pull_back_change(
        layers,
        inner.tape,
        inner.backward,
        v['layers'],
        changes,
        cotangent_change,
      ),
      'log_std': log_std_change,
    }
    return jax.tree.map(lambda v, h: v + inner_lr * h, v, hessian_product)

  def adaptation_transpose_product(
    inner: _Inner, v: types.Params
  ) -> types.Params:
    """J_i^T v: J_i is symmetric for one step of a scalar alpha."""
    return adaptation_product(inner, v)

  def record_outer(adapted: types.Params, post: types.Trajectory) -> _Outer:
    steps = masking.live_steps(_flat(post))
    mean, tape = network.record(adapted['layers'], steps.obs)
    return _Outer(adapted, steps.mask, mean, tape)

  def fisher_product(outer: _Outer, v: types.Params) -> types.Params:
    """F_i v."""
    layers, log_std = outer.adapted['layers'], outer.adapted['log_std']
    change, _ = network.push_forward(layers, outer.tape, v['layers'])
    dist, pull_back = jax.vjp(head, outer.mean, log_std)
    _, change = jax.jvp(head, (outer.mean, log_std), (change, v['log_std']))
    share = (outer.mask / jnp.maximum(jnp.sum(outer.mask), 1))[:, None]
    cotangent, log_std_product = pull_back(
      gaussian.Gaussian(
        mean=share * change.mean * jnp.exp(-2 * dist.log_std),
        log_std=2 * change.log_std * jnp.sum(share),
      )
    )
    product, _ = network.pull_back(layers, outer.tape, cotangent)
    return {'layers': product, 'log_std': log_std_product}

  def task_gradient(
    inner: _Inner,
    outer: _Outer,
    post: types.Trajectory,
    advantages: jax.Array,
  ) -> tuple[jax.Array, types.Params]:
    """Task i's surrogate, and J_i^T g_i."""
    steps, advantages = _flat(post), _flat(advantages)

    def gain(mean: jax.Array, log_std: jax.Array) -> jax.Array:
      dist = head(mean, log_std)
      return maml.outer_gain(dist, steps, advantages, entropy_coef)

    value, (cotangent, log_std_gradient) = jax.value_and_grad(gain, (0, 1))(
      outer.mean, outer.adapted['log_std']
    )
    gradient, _ = network.pull_back(
      outer.adapted['layers'], outer.tape, cotangent
    )
    return value, adaptation_transpose_product(
      inner, {'layers': gradient, 'log_std': log_std_gradient}
    )

  def mean_over_tasks(tree: Any) -> Any:
    return jax.tree.map(lambda x: maml.mean_over_tasks(x, batch.weight), tree)

  inner = maml.over_tasks(record_inner)(batch.pre, batch.pre_advantages)
  outer = maml.over_tasks(record_outer)(batch.adapted, batch.post)
  surrogate, gradient = mean_over_tasks(
    _map_tasks(task_gradient, inner, outer, batch.post, batch.post_advantages)
  )

  def curvature(v: types.Params) -> types.Params:
    def task(inner: _Inner, outer: _Outer) -> types.Params:
      product = fisher_product(outer, adaptation_product(inner, v))
      return adaptation_transpose_product(inner, product)

    return mean_over_tasks(_map_tasks(task, inner, outer))

  return MetaGradient(surrogate, gradient, curvature)


def _flat(tree: Any) -> Any:
  """One axis in place of the first two, as of time and rollouts [T, N]."""
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _map_tasks(fn: Callable, *args: Any) -> Any:
  """`fn` over the task axes [K, P].

  On a CPU one after the other, so that what a task's passes read is still in
  the cache; elsewhere all at once.
  """

  def in_turn(*args: Any) -> Any:
    # One loop, as each copies what its step reads.
    results = jax.lax.map(lambda task: fn(*task), _flat(args))
    return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), results)

  axes = jax.tree.leaves(args)[0].shape[:2]
  return jax.lax.platform_dependent(
    *args, cpu=in_turn, default=maml.over_tasks(fn)
  )
