"""The outer objective about theta: gradient, the kl's curvature, values nearby.

`maml.meta_objective` and its derivatives for the tanh network of
`policies/network.py`, from what one forward and one backward pass per task
leave behind. At theta, with g_i the gradient of task i's surrogate at theta_i'
and F_i the Fisher matrix there,

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
from mbmpo_jax.optim import tasks
from mbmpo_jax.policies import gaussian
from mbmpo_jax.policies import network
from mbmpo_jax.policies import score

# (mean [B, A], log_std [A]) -> distribution
Head = Callable[..., gaussian.Gaussian]


class MetaGradient(NamedTuple):
  """The outer objective and its derivatives at theta."""

  surrogate: jax.Array
  gradient: types.Params  # of the surrogate
  curvature: Callable[[types.Params], types.Params]  # v -> H v
  # Parameters elsewhere -> (surrogate, kl), as `trpo.trpo_step` takes it.
  objective: Callable[[types.Params], tuple[jax.Array, jax.Array]]


class _Steps(NamedTuple):
  """A task's rollouts, zero where masked; samples are last, [..., B].

  Their observations are the first of a tape.
  """

  action: jax.Array  # [A, B]
  log_prob: jax.Array
  advantages: jax.Array
  mask: jax.Array


class _Kept(NamedTuple):
  """What a task's derivatives are made of; samples are last, [..., B]."""

  pre: _Steps  # of T_i
  pre_mean: jax.Array  # of theta on T_i
  pre_tape: network.Tape
  pre_gain: score.Gain  # L_i
  pre_gradient: gaussian.Gaussian  # its gradient there
  pre_cotangents: tuple[jax.Array, ...]  # the same in every layer
  post: _Steps  # of T_i'
  post_mean: jax.Array  # of theta_i' on T_i'
  post_tape: network.Tape
  post_share: jax.Array  # of each step in a mean over T_i'


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
    head: `(mean, log_std) -> distribution`, whose mean is `mean`.
  """
  batch = maml.mask_weightless(batch)
  layers, log_std = policy_params['layers'], policy_params['log_std']

  def distribution(mean: jax.Array, log_std: jax.Array) -> gaussian.Gaussian:
    """That of a network's output [A, B]; deviations [A, 1]."""
    return gaussian.Gaussian(mean, head(mean.T, log_std).log_std.T)

  def log_prob(steps: _Steps, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Of the actions [B], by the network's output [A, B] and log sigma [A]."""
    return gaussian.log_prob(distribution(mean, log_std), steps.action, axis=0)

  def pull_back_head(
    mean: jax.Array, log_std: jax.Array, cotangent: gaussian.Gaussian
  ) -> tuple[jax.Array, jax.Array]:
    """From (mu [A, B], log sigma [A, 1]) to (output [A, B], log_std [A])."""
    return jax.vjp(distribution, mean, log_std)[1](cotangent)

  def inner_gain(
    steps: _Steps, mean: jax.Array, log_std: jax.Array
  ) -> tuple[score.Gain, gaussian.Gaussian]:
    """L_i at the network's output [A, B] and log sigma [A]; its gradient."""

    def gain_fn(log_prob: jax.Array) -> jax.Array:
      return maml.inner_gain(
        log_prob,
        steps.log_prob,
        steps.advantages,
        steps.mask,
        objective=objective,
      )

    dist = distribution(mean, log_std)
    linear = objective == 'log_likelihood'
    gain = score.at(gain_fn, dist, steps.action, linear=linear)
    return gain, score.gradient(gain, dist)

  def outer_gain(steps: _Steps) -> Callable[..., jax.Array]:
    """Task i's part of the surrogate, a scalar, of the same two."""

    def gain(*output: jax.Array) -> jax.Array:
      gained = maml.outer_gain(
        log_prob(steps, *output), steps.log_prob, steps.advantages, steps.mask
      )
      return gained + entropy_coef * gaussian.entropy(distribution(*output))

    return gain

  def record(task: maml.MetaBatch) -> _Kept:
    pre = _steps(task.pre, task.pre_advantages)
    pre_mean, pre_tape = network.record(layers, _obs(task.pre))
    pre_gain, pre_gradient = inner_gain(pre, pre_mean, log_std)
    cotangent, _ = pull_back_head(pre_mean, log_std, pre_gradient)
    _, pre_cotangents = network.pull_back(layers, pre_tape, cotangent)
    post = _steps(task.post, task.post_advantages)
    post_mean, post_tape = network.record(
      task.adapted['layers'], _obs(task.post)
    )
    return _Kept(
      pre,
      pre_mean,
      pre_tape,
      pre_gain,
      pre_gradient,
      pre_cotangents,
      post,
      post_mean,
      post_tape,
      post.mask / jnp.maximum(jnp.sum(post.mask), 1),
    )

  def adaptation_product(kept: _Kept, v: types.Params) -> types.Params:
    """J_i v."""
    change, changes = network.push_forward(layers, kept.pre_tape, v['layers'])
    here, along = (kept.pre_mean, log_std), (change, v['log_std'])
    dist, dist_change = jax.jvp(distribution, here, along)
    gradient_change = score.gradient_change(kept.pre_gain, dist, dist_change)
    _, (cotangent_change, log_std_product) = jax.jvp(
      pull_back_head, (*here, kept.pre_gradient), (*along, gradient_change)
    )
    layers_product = network.pull_back_change(
      layers,
      kept.pre_tape,
      kept.pre_cotangents,
      v['layers'],
      changes,
      cotangent_change,
    )
    product = {'layers': layers_product, 'log_std': log_std_product}
    return jax.tree.map(lambda v, h: v + inner_lr * h, v, product)

  def adapt(params: types.Params, kept: _Kept) -> types.Params:
    """theta_i', from any theta."""
    mean, tape = network.record(params['layers'], kept.pre_tape[0])
    _, slope = inner_gain(kept.pre, mean, params['log_std'])
    cotangent, log_std_gradient = pull_back_head(mean, params['log_std'], slope)
    layers_gradient, _ = network.pull_back(params['layers'], tape, cotangent)
    gradient = {'layers': layers_gradient, 'log_std': log_std_gradient}
    return jax.tree.map(lambda p, g: p + inner_lr * g, params, gradient)

  # J_i^T v: J_i is symmetric for one step of a scalar alpha.
  adaptation_transpose_product = adaptation_product

  def fisher_product(
    adapted: types.Params, kept: _Kept, v: types.Params
  ) -> types.Params:
    """F_i v."""
    layers, log_std = adapted['layers'], adapted['log_std']
    change, _ = network.push_forward(layers, kept.post_tape, v['layers'])

    here = (kept.post_mean, log_std)
    dist, change = jax.jvp(distribution, here, (change, v['log_std']))
    share = kept.post_share[None]
    cotangent, log_std_product = pull_back_head(
      *here,
      gaussian.Gaussian(
        mean=share * change.mean * jnp.exp(-2 * dist.log_std),
        log_std=2 * change.log_std * jnp.sum(share),
      ),
    )
    product, _ = network.pull_back(layers, kept.post_tape, cotangent)
    return {'layers': product, 'log_std': log_std_product}

  def gradient(
    task: maml.MetaBatch,
  ) -> tuple[_Kept, jax.Array, types.Params]:
    """What is kept, task i's surrogate, and J_i^T g_i."""
    kept = record(task)
    value, (cotangent, log_std_gradient) = jax.value_and_grad(
      outer_gain(kept.post), (0, 1)
    )(kept.post_mean, task.adapted['log_std'])
    layers_gradient, _ = network.pull_back(
      task.adapted['layers'], kept.post_tape, cotangent
    )
    product = adaptation_transpose_product(
      kept, {'layers': layers_gradient, 'log_std': log_std_gradient}
    )
    return kept, value, product

  def mean_over_tasks(tree: Any) -> Any:
    return jax.tree.map(lambda x: tasks.mean(x, batch.weight), tree)

  kept, *derivatives = tasks.map_tasks(gradient, batch)
  surrogate, mean_gradient = mean_over_tasks(derivatives)

  def curvature(v: types.Params) -> types.Params:
    def task_product(adapted: types.Params, kept: _Kept) -> types.Params:
      product = fisher_product(adapted, kept, adaptation_product(kept, v))
      return adaptation_transpose_product(kept, product)

    return mean_over_tasks(tasks.map_tasks(task_product, batch.adapted, kept))

  def objective_fn(params: types.Params) -> tuple[jax.Array, jax.Array]:
    def task(sampler: types.Params, kept: _Kept) -> tuple[jax.Array, jax.Array]:
      adapted = adapt(params, kept)
      mean, _ = network.record(adapted['layers'], kept.post_tape[0])
      kl = gaussian.kl(
        distribution(kept.post_mean, sampler['log_std']),
        distribution(mean, adapted['log_std']),
        axis=0,
      )
      gain = outer_gain(kept.post)(mean, adapted['log_std'])
      return gain, masking.mean(kl, kept.post.mask)

    return mean_over_tasks(tasks.map_tasks(task, batch.adapted, kept))

  return MetaGradient(surrogate, mean_gradient, curvature, objective_fn)


def _steps(trajectory: types.Trajectory, advantages: jax.Array) -> _Steps:
  """`trajectory` [T, N, ...] and `advantages` [T, N], samples last."""
  mask = trajectory.mask
  return _Steps(
    action=_flat(masking.live(trajectory.action, mask)).T,
    log_prob=_flat(masking.live(trajectory.log_prob, mask)),
    advantages=_flat(masking.live(advantages, mask)),
    mask=_flat(mask),
  )


def _obs(trajectory: types.Trajectory) -> jax.Array:
  """The observations [in, B] of [T, N, in], zero where masked."""
  return _flat(masking.live(trajectory.obs, trajectory.mask)).T


def _flat(x: jax.Array) -> jax.Array:
  """One axis in place of the first two, of time and rollouts [T, N]."""
  return x.reshape(-1, *x.shape[2:])
