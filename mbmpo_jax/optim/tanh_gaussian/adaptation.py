"""The inner step and its derivative, for the tanh network of `network.py`.

  theta_i' = theta + alpha grad L_i(theta),    J_i = I + alpha Hessian of L_i,

symbols as in `maml`, one task at a time. The forward and the backward pass over
T_i that lead to theta_i' are kept; a product J_i v is then one Hessian product,
nothing nested deeper.
"""

import functools
from typing import NamedTuple

import jax

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.objectives import maml
from mbmpo_jax.optim.tanh_gaussian import samples as samples_lib
from mbmpo_jax.policies import gaussian
from mbmpo_jax.optim.tanh_gaussian import network
from mbmpo_jax.optim.tanh_gaussian import log_prob_sum


class Adaptation(NamedTuple):
  """A task's inner step from theta; samples are last, [..., B]."""

  samples: samples_lib.Samples  # of T_i
  mean: jax.Array  # the network's output, [A, B]
  hidden: tuple[jax.Array, ...]  # its tape beyond the observations
  gain: log_prob_sum.Gain  # L_i
  gradient: gaussian.Gaussian  # its gradient there
  cotangents: network.Cotangents  # of the network, from there

  @property
  def tape(self) -> network.Tape:
    """The network's, on T_i."""
    return (self.samples.obs, *self.hidden)


def adapt(
  policy_params: types.Params,
  samples: samples_lib.Samples,
  *,
  inner_lr: jax.Array | float,
  objective: str = 'log_likelihood',
  head: samples_lib.Head = gaussian.head,
) -> tuple[types.Params, Adaptation]:
  """theta_i', as `maml.adapt` has it, and what it came from.

  Args:
    policy_params: theta, as `gaussian.init` returns it.
    samples: T_i and A_i, of theta or of another policy.
    inner_lr: alpha.
    objective: as in `maml.inner_objective`.
    head: `(mean, log_std) -> distribution`, whose mean is `mean`.
  """
  layers, log_std = policy_params['layers'], policy_params['log_std']

  def gain_fn(log_prob: jax.Array) -> jax.Array:
    return maml.inner_gain(
      log_prob,
      samples.log_prob,
      samples.advantages,
      samples.mask,
      objective=objective,
    )

  mean, tape = network.record(layers, samples.obs)
  dist = samples_lib.distribution(mean, log_std, head=head)
  linear = objective == 'log_likelihood'
  gain = log_prob_sum.at(gain_fn, dist, samples.action, linear=linear)
  gain_gradient = log_prob_sum.gradient(gain, dist)
  cotangent, log_std_gradient = samples_lib.pull_back(
    mean, log_std, gain_gradient, head=head
  )
  layers_gradient, cotangents = network.pull_back(layers, tape, cotangent)
  gradient = {'layers': layers_gradient, 'log_std': log_std_gradient}
  adapted = jax.tree.map(lambda p, g: p + inner_lr * g, policy_params, gradient)
  return adapted, Adaptation(
    samples, mean, tape[1:], gain, gain_gradient, cotangents
  )


def product(
  policy_params: types.Params,
  adaptation: Adaptation,
  v: types.Params,
  *,
  inner_lr: jax.Array | float,
  head: samples_lib.Head = gaussian.head,
) -> types.Params:
  """J_i v, which is J_i^T v: J_i is symmetric for one step of a scalar alpha.

  Args:
    policy_params: theta.
    adaptation: from there.
    v: like theta.
    inner_lr: alpha.
    head: as for `adapt`.
  """
  layers, log_std = policy_params['layers'], policy_params['log_std']
  change, changes = network.push_forward(layers, adaptation.tape, v['layers'])
  here, along = (adaptation.mean, log_std), (change, v['log_std'])
  distribution = functools.partial(samples_lib.distribution, head=head)
  pull_back = functools.partial(samples_lib.pull_back, head=head)

  dist, dist_change = jax.jvp(distribution, here, along)
  gradient_change = log_prob_sum.gradient_change(adaptation.gain, dist, dist_change)
  _, (cotangent_change, log_std_product) = jax.jvp(
    pull_back, (*here, adaptation.gradient), (*along, gradient_change)
  )
  layers_product = network.pull_back_change(
    layers,
    adaptation.tape,
    adaptation.cotangents,
    v['layers'],
    changes,
    cotangent_change,
  )
  hessian_product = {'layers': layers_product, 'log_std': log_std_product}
  return jax.tree.map(lambda v, h: v + inner_lr * h, v, hessian_product)


def plasticity(
  policy_params: types.Params,
  adapted: types.Params,
  adaptation: Adaptation,
  *,
  head: samples_lib.Head = gaussian.head,
) -> jax.Array:
  """KL(pi_theta || pi_{theta_i'}) on T_i: how far the step moves the policy.

  The quantity of section 6.3; a scalar, in nats.

  Args:
    policy_params: theta.
    adapted: theta_i'.
    adaptation: from the one to the other.
    head: as for `adapt`.
  """
  distribution = functools.partial(samples_lib.distribution, head=head)
  adapted_mean, _ = network.record(adapted['layers'], adaptation.samples.obs)
  old = distribution(adaptation.mean, policy_params['log_std'])
  new = distribution(adapted_mean, adapted['log_std'])
  divergence = gaussian.kl(old, new, axis=0)
  return masking.mean(divergence, adaptation.samples.mask)
