"""The outer objective about theta: gradient, the kl's curvature, values nearby.

`maml.meta_objective` and its derivatives for the tanh network of
`policies/network.py`, from what one forward and one backward pass per task
leave behind. At theta, with g_i the gradient of task i's surrogate at theta_i'
and F_i the Fisher matrix there,

  gradient = mean_i J_i^T g_i,    H v = mean_i J_i^T F_i J_i v,
  F_i = mean over T_i' of D^T diag(1 / sigma^2, 2) D, D the Jacobian of
        (mu, log sigma),

symbols as in `maml` and, for J_i, `adaptation`. The kl is at its minimum at
theta, so that H is its whole Hessian. A product costs two inner Hessian
products, one forward and one reverse derivative of the network; v'Hv alone, a
mean of squares, one Hessian product and the forward derivative.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.optim.tanh_gaussian import adaptation
from mbmpo_jax.objectives import maml
from mbmpo_jax.optim.tanh_gaussian import samples as samples_lib
from mbmpo_jax import tasks
from mbmpo_jax.policies import gaussian
from mbmpo_jax.optim.tanh_gaussian import network


class MetaGradient(NamedTuple):
  """The outer objective and its derivatives at theta."""

  surrogate: jax.Array
  gradient: types.Params  # of the surrogate
  curvature: Callable[[types.Params], types.Params]  # v -> H v
  quadratic: Callable[[types.Params], jax.Array]  # v -> v'Hv
  # Parameters elsewhere -> (surrogate, kl), as `trpo.trpo_step` takes it.
  objective: Callable[[types.Params], tuple[jax.Array, jax.Array]]


class _Adapted(NamedTuple):
  """A task after its inner step; samples are last, [..., B]."""

  params: types.Params  # theta_i'
  samples: samples_lib.Samples  # of T_i'
  mean: jax.Array  # of theta_i' on T_i', [A, B]
  hidden: tuple[jax.Array, ...]  # of the same, its tape beyond the observations
  share: jax.Array  # of each step in a mean over T_i'

  @property
  def tape(self) -> network.Tape:
    """That of theta_i' on T_i'."""
    return (self.samples.obs, *self.hidden)


def at(
  policy_params: types.Params,
  batch: maml.MetaBatch,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
  entropy_coef: jax.Array | float = 0.0,
  head: samples_lib.Head = gaussian.head,
  adaptations: adaptation.Adaptation | None = None,
) -> MetaGradient:
  """Differentiates `maml.meta_objective` of `batch` at `policy_params`.

  Args:
    policy_params: theta, as `gaussian.init` returns it.
    batch: sampled at theta.
    inner_lr: alpha.
    objective: of the inner step.
    entropy_coef: weight of the adapted policies' mean entropy.
    head: `(mean, log_std) -> distribution`, whose mean is `mean`.
    adaptations: what `adaptation.adapt` gave beside `batch.adapted`, leading
      [K, P]; by default it is computed once more.
  """
  batch = maml.mask_weightless(batch)
  inner_step = functools.partial(
    adaptation.adapt, inner_lr=inner_lr, objective=objective, head=head
  )
  adaptation_product = functools.partial(
    adaptation.product, policy_params, inner_lr=inner_lr, head=head
  )
  distribution = functools.partial(samples_lib.distribution, head=head)

  def gain(
    samples: samples_lib.Samples, mean: jax.Array, log_std: jax.Array
  ) -> jax.Array:
    """Task i's part of the surrogate, by the output [A, B] on T_i'."""
    dist = distribution(mean, log_std)
    log_prob = gaussian.log_prob(dist, samples.action, axis=0)
    gained = maml.outer_gain(
      log_prob, samples.log_prob, samples.advantages, samples.mask
    )
    return gained + entropy_coef * gaussian.entropy(dist)

  def gradient(
    task: maml.MetaBatch, inner: adaptation.Adaptation
  ) -> tuple[_Adapted, jax.Array, types.Params]:
    """What is kept of T_i', task i's surrogate, and J_i^T g_i."""
    layers, log_std = task.adapted['layers'], task.adapted['log_std']
    samples = samples_lib.of(task.post, task.post_advantages)
    mean, tape = network.record(layers, samples.obs)
    value, (cotangent, log_std_gradient) = jax.value_and_grad(gain, (1, 2))(
      samples, mean, log_std
    )
    layers_gradient, _ = network.pull_back(layers, tape, cotangent)
    share = samples.mask / jnp.maximum(jnp.sum(samples.mask), 1)
    return (
      _Adapted(task.adapted, samples, mean, tape[1:], share),
      value,
      adaptation_product(
        inner, {'layers': layers_gradient, 'log_std': log_std_gradient}
      ),
    )

  def outputs_change(
    task: _Adapted, v: types.Params
  ) -> tuple[gaussian.Gaussian, gaussian.Gaussian]:
    """mu and log sigma on T_i', and D v."""
    change, _ = network.push_forward(
      task.params['layers'], task.tape, v['layers']
    )
    return jax.jvp(
      distribution,
      (task.mean, task.params['log_std']),
      (change, v['log_std']),
    )

  def fisher_product(task: _Adapted, v: types.Params) -> types.Params:
    """F_i v."""
    dist, change = outputs_change(task, v)
    share = task.share[None]
    cotangent, log_std_product = samples_lib.pull_back(
      task.mean,
      task.params['log_std'],
      gaussian.Gaussian(
        mean=share * change.mean * jnp.exp(-2 * dist.log_std),
        log_std=2 * change.log_std * jnp.sum(share),
      ),
      head=head,
    )
    product, _ = network.pull_back(task.params['layers'], task.tape, cotangent)
    return {'layers': product, 'log_std': log_std_product}

  def fisher_quadratic(task: _Adapted, v: types.Params) -> jax.Array:
    """v'F_i v."""
    dist, change = outputs_change(task, v)
    squares = jnp.square(change.mean * jnp.exp(-dist.log_std))
    return jnp.sum(
      task.share * jnp.sum(squares + 2 * jnp.square(change.log_std), 0)
    )

  def mean_over_tasks(tree: Any) -> Any:
    return jax.tree.map(lambda x: tasks.mean(x, batch.weight), tree)

  if adaptations is None:

    def record(task: maml.MetaBatch) -> adaptation.Adaptation:
      samples = samples_lib.of(task.pre, task.pre_advantages)
      return inner_step(policy_params, samples)[1]

    adaptations = tasks.map_tasks(record, batch)
  adapted, *derivatives = tasks.map_tasks(gradient, batch, adaptations)
  surrogate, mean_gradient = mean_over_tasks(derivatives)

  def curvature(v: types.Params) -> types.Params:
    def task(adapted: _Adapted, inner: adaptation.Adaptation) -> types.Params:
      product = fisher_product(adapted, adaptation_product(inner, v))
      return adaptation_product(inner, product)

    return mean_over_tasks(tasks.map_tasks(task, adapted, adaptations))

  def quadratic(v: types.Params) -> jax.Array:
    def task(adapted: _Adapted, inner: adaptation.Adaptation) -> jax.Array:
      return fisher_quadratic(adapted, adaptation_product(inner, v))

    return mean_over_tasks(tasks.map_tasks(task, adapted, adaptations))

  def objective_fn(params: types.Params) -> tuple[jax.Array, jax.Array]:
    def task(
      sampler: _Adapted, inner: adaptation.Adaptation
    ) -> tuple[jax.Array, jax.Array]:
      new, _ = inner_step(params, inner.samples)
      mean, _ = network.record(new['layers'], sampler.samples.obs)
      kl = gaussian.kl(
        distribution(sampler.mean, sampler.params['log_std']),
        distribution(mean, new['log_std']),
        axis=0,
      )
      value = gain(sampler.samples, mean, new['log_std'])
      return value, masking.mean(kl, sampler.samples.mask)

    return mean_over_tasks(tasks.map_tasks(task, adapted, adaptations))

  return MetaGradient(
    surrogate, mean_gradient, curvature, quadratic, objective_fn
  )
