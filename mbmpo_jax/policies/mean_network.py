"""A Gaussian policy with a flax network as mean and a constant deviation."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax import broadcasting
from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import distributions


class Gaussian(nn.Module):
  """The mean network and a log-deviation that does not depend on the state.

  Attributes:
    action_size: A.
    hidden_sizes: units of each hidden layer.
    init_std: initial standard deviation.
    activation: one of `mlp.ACTIVATIONS`.
    min_std: floor of the deviation.
    learn_std: whether the deviation is learned.
    bound_mean: whether the mean is the tanh of the network's output.
  """

  action_size: int
  hidden_sizes: tuple[int, ...]
  init_std: float
  activation: str = 'relu'
  min_std: float = 0.0
  learn_std: bool = True
  bound_mean: bool = False

  @nn.compact
  def __call__(self, obs: jax.Array) -> distributions.Gaussian:
    """The density [..., A] at observations [..., O]."""
    net = mlp.MLP(self.hidden_sizes, self.action_size, self.activation)
    mean = net(obs)
    if self.bound_mean:
      mean = jnp.tanh(mean)
    log_std = self.param(
      'log_std',
      nn.initializers.constant(math.log(self.init_std)),
      (self.action_size,),
    )
    if self.min_std > 0:
      log_std = jnp.maximum(log_std, math.log(self.min_std))
    if not self.learn_std:
      log_std = jax.lax.stop_gradient(log_std)
    return distributions.Gaussian(
      mean, broadcasting.leading(log_std, mean.ndim)
    )
