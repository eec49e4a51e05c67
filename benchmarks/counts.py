"""The minimal arithmetic and memory traffic of an iteration, derived by hand.

Floating-point operations (FLOPs) are those of matrix products, two per
multiply-add; elementwise operations are not counted. Nothing is computed twice:
a rollout stores its policy's activations h_l and baseline features, a gradient
stores its errors d_l.

Let a network have layers l = 1..n with m_l = s_{l-1} s_l multiply-adds per
sample (s_0 inputs, s_n outputs), F = m_1 + ... + m_n and R = F - m_1.

  forward   a_l = h_{l-1} W_l                                          F
  backward  d_{l-1} = d_l W_l' * phi', l > 1                           R
            dW_l = h_{l-1}' d_l                                        F
  tangent   of the outputs along V, where the inputs have none:
            Ra_1 = h_0 V_1; Ra_l = Rh_{l-1} W_l + h_{l-1} V_l, l > 1   F + R
  hessian   of a loss along V (Pearlmutter 1994): the tangent          F + R
            Rd_{l-1} = (Rd_l W_l' + d_l V_l') * phi' + ..., l > 1      2 R
            RdW_1 = h_0' Rd_1
            RdW_l = Rh_{l-1}' d_l + h_{l-1}' Rd_l, l > 1               F + R
  fisher    the tangent of the outputs and its pull-back               2 F + 2 R

With the policy's F and R, per imagined sample:

  imagine              the member's forward and the policy's
  advantages           F'F is symmetric, D (D + 1) / 2 for D features; F'R and
                       the prediction, D each
  inner gradient       backward; the rollout has been forward
  surrogate gradient   backward at theta_i', then J_i', a hessian
  curvature product    J_i' F_i J_i v: two hessians and a fisher; conjugate
                       gradients need of the last one v'J_i' F_i J_i v alone,
                       a hessian and the tangent of the outputs
  evaluation           of the line search: forward and backward on T_i to
                       adapt, forward on T_i' for surrogate and kl alike

A fit has forward and backward per training row and epoch, and forward per
validation row. The physics of collect is not counted.

Bytes are those that a piece must read and write at least once per pass over its
samples, if everything in between stays in the cache: activations, noise and
gradients are not counted. A single program cannot always reach both minima.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp

from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.envs import base

Sizes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Count:
  """The FLOPs and bytes of a piece of the iteration, or of its program."""

  flops: float
  bytes: float

  def __add__(self, other: 'Count') -> 'Count':
    return Count(self.flops + other.flops, self.bytes + other.bytes)

  def __rmul__(self, times: float) -> 'Count':
    return Count(times * self.flops, times * self.bytes)


def forward(sizes: Sizes) -> int:
  """FLOPs of one sample through a network of these layer sizes."""
  return sum(2 * a * b for a, b in itertools.pairwise(sizes))


def backward(sizes: Sizes) -> int:
  """FLOPs of the gradient by the weights, without that by the inputs."""
  return forward(sizes) + _beyond_first(sizes)


def tangent(sizes: Sizes) -> int:
  """FLOPs of the outputs' derivative along weights, with stored activations."""
  return forward(sizes) + _beyond_first(sizes)


def hessian(sizes: Sizes) -> int:
  """FLOPs of a Hessian-vector product, with stored activations and errors."""
  return 2 * forward(sizes) + 4 * _beyond_first(sizes)


def fisher(sizes: Sizes) -> int:
  """FLOPs of a Fisher-vector product, with stored activations."""
  return tangent(sizes) + backward(sizes)


def _beyond_first(sizes: Sizes) -> int:
  return forward(sizes[1:])


def _num_weights(sizes: Sizes) -> int:
  return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def iteration(
  env: base.Environment,
  config: config_lib.Config,
  *,
  epochs: float,
  evaluations: float,
) -> dict[str, Count]:
  """Counts every phase of an iteration and every piece of a meta-step.

  Args:
    env: gives the sizes of observations and actions.
    config: gives all other sizes.
    epochs: measured epochs of the fit, summed over the members.
    evaluations: measured evaluations of a meta-step's line search.
  """
  item = jnp.zeros(()).dtype.itemsize
  obs, action = env.observation_size, env.action_size
  seen = jax.eval_shape(env.model_input, jnp.zeros(obs)).shape[0]
  model = (seen + action, *config.model.hidden_sizes, obs)
  policy = (obs, *config.policy.hidden_sizes, action)
  features = 2 * obs + 4

  num_models = config.model.num_models
  tasks = num_models * config.model_rollouts.tasks_per_model
  samples = (
    tasks
    * config.model_rollouts.rollouts_per_task
    * config.model_rollouts.horizon
  )
  members = num_models * _num_weights(model)
  theta = _num_weights(policy) + action

  def over_samples(flops: float, numbers: int, weights: int) -> Count:
    """Counts a piece.

    Args:
      flops: FLOPs per sample.
      numbers: numbers read or written per sample.
      weights: numbers read or written once.
    """
    return Count(flops * samples, item * (numbers * samples + weights))

  # obs, next_obs, action, env_action, log_prob, reward, terminated, mask.
  imagine = over_samples(
    forward(model) + forward(policy), 2 * obs + 2 * action + 4, members + theta
  )
  # obs, reward, terminated, mask, and the advantage.
  advantages = over_samples(
    features * (features + 1) + 4 * features, obs + 4, 0
  )
  # obs, action, advantage, mask; for T_i' also the old log_prob.
  pre, post = obs + action + 2, obs + action + 3
  adapted = tasks * theta
  inner_gradient = over_samples(backward(policy), pre, theta + adapted)
  surrogate_gradient = over_samples(
    backward(policy) + hessian(policy), pre + post, 2 * theta + adapted
  )
  # The Fisher product needs only obs and mask.
  product = over_samples(
    2 * hessian(policy) + fisher(policy), pre + obs + 1, 2 * theta + adapted
  )
  evaluation = over_samples(
    2 * forward(policy) + backward(policy), pre + post, theta + adapted
  )
  quadratic = over_samples(
    hessian(policy) + tangent(policy), pre + obs + 1, theta + adapted
  )
  curvature = (config.trust_region.cg_iterations - 1) * product + quadratic
  meta_step = (
    2 * imagine
    + 2 * advantages
    + inner_gradient
    + surrogate_gradient
    + curvature
    + evaluations * evaluation
  )

  collect = _collect(config, policy, obs, item)
  if config.collect.policy == 'adapted':
    collect += imagine + advantages + inner_gradient
  fit = _fit(config, model, epochs, item)
  improve = config.meta.num_meta_steps * meta_step
  return {
    'collect': collect,
    'fit': fit,
    'imagine': imagine,
    'advantages': advantages,
    'inner gradient': inner_gradient,
    'surrogate gradient': surrogate_gradient,
    'curvature products': curvature,
    'evaluation': evaluation,
    'meta-step': meta_step,
    'improve': improve,
    'update': collect + fit + improve,
  }


def _collect(
  config: config_lib.Config, policy: Sizes, obs: int, item: int
) -> Count:
  """Counts the real rollouts without physics: policy, and buffer rows."""
  real = config.collect.num_trajectories * config.collect.episode_length
  # obs, next_obs, action; reward, terminated, truncated, episode, time.
  row = 2 * obs + policy[-1] + 5
  return Count(real * forward(policy), item * real * row)


def _fit(
  config: config_lib.Config, model: Sizes, epochs: float, item: int
) -> Count:
  """Counts a full buffer's fit; Adam accesses weights and two moments."""
  stored = config.collect.buffer_capacity
  held_out = int(stored * config.model.validation_fraction)
  train = stored - held_out
  steps = -(-train // config.model.batch_size)
  flops = train * (forward(model) + backward(model)) + held_out * forward(model)
  rows = stored * (model[0] + model[-1])
  return epochs * Count(flops, item * (rows + 6 * steps * _num_weights(model)))
