"""Policies with tanh-squashed actions within [-1, 1], as flax networks.

The squashed Gaussian of SAC, whose deviation depends on the state, and the
deterministic policy of DDPG, with added noise for exploration.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions


def head(
  outputs: jax.Array, *, min_log_std: float, max_log_std: float
) -> distributions.TanhGaussian:
  """The squashed Gaussian given by a network's outputs.

  Log-deviations are bounded smoothly, so that gradients do not vanish:
  log sigma = low + (high - low) sigmoid(x).

  Args:
    outputs: the mean before the tanh, followed by x, `[..., 2 A]`.
    min_log_std: low.
    max_log_std: high.
  """
  mean, x = jnp.split(outputs, 2, -1)
  log_std = min_log_std + (max_log_std - min_log_std) * jax.nn.sigmoid(x)
  return distributions.TanhGaussian(mean, log_std)


class Gaussian(nn.Module):
  """SAC's policy: an MLP whose outputs are mean and deviation.

  Attributes:
    action_size: A.
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
    min_log_std: least log-deviation.
    max_log_std: greatest log-deviation.
  """

  action_size: int
  hidden_sizes: tuple[int, ...] = (256, 256)
  activation: str = 'relu'
  min_log_std: float = -5.0
  max_log_std: float = 2.0

  @nn.compact
  def __call__(self, obs: jax.Array) -> distributions.TanhGaussian:
    """The density [..., A] at observations [..., O]."""
    outputs = mlp.MLP(self.hidden_sizes, 2 * self.action_size, self.activation)(
      obs
    )
    return head(
      outputs, min_log_std=self.min_log_std, max_log_std=self.max_log_std
    )


class Deterministic(nn.Module):
  """DDPG's policy: the tanh of an MLP.

  Attributes:
    action_size: A.
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
  """

  action_size: int
  hidden_sizes: tuple[int, ...] = (256, 256)
  activation: str = 'relu'

  @nn.compact
  def __call__(self, obs: jax.Array) -> distributions.Deterministic:
    """The action [..., A] at observations [..., O]."""
    outputs = mlp.MLP(self.hidden_sizes, self.action_size, self.activation)(obs)
    return distributions.Deterministic(jnp.tanh(outputs))


def exploring(policy: base.Policy, std: jax.Array | float) -> base.Policy:
  """The memoryless policy with Gaussian noise added to greedy actions.

  Its density is that of the noisy action before the environment clips it. Its
  greedy action is that of `policy`.

  Args:
    policy: memoryless, with a distribution such as that of `Deterministic`.
    std: standard deviation of the noise, in units of the action; may be traced.

  Example:
    >>> from mbmpo_jax.policies import flax_policy
    >>> policy = flax_policy.make(Deterministic(2, (8,)), 3, 2)
    >>> noisy = exploring(policy, 0.1)
    >>> params = noisy.init(jax.random.PRNGKey(0))
    >>> noise = noisy.noise(jax.random.PRNGKey(1), (4,))
    >>> action = noisy.act(params, (), jnp.ones((4, 3)), noise)[1]
    >>> action.env.shape, action.log_prob.shape
    ((4, 2), (4,))
  """

  def distribution(params: object, obs: jax.Array) -> distributions.Gaussian:
    assert policy.distribution is not None
    mean = policy.distribution(params, (), obs).mode()
    shape = (1,) * (mean.ndim - 1) + mean.shape[-1:]
    log_std = jnp.broadcast_to(jnp.log(jnp.asarray(std, mean.dtype)), shape)
    return distributions.Gaussian(mean, log_std)

  return base.memoryless(policy.init, distribution, noise=policy.noise)
