"""Value networks: V of observations, Q of observations and actions."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax.networks import mlp


class Value(nn.Module):
  """The state value V(s).

  Attributes:
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
  """

  hidden_sizes: tuple[int, ...]
  activation: str = 'tanh'

  @nn.compact
  def __call__(self, obs: jax.Array) -> jax.Array:
    """Maps `obs` [..., O] to values [...]."""
    return mlp.MLP(self.hidden_sizes, 1, self.activation)(obs)[..., 0]


class Critics(nn.Module):
  """Action values Q(s, a) of several independent networks.

  Attributes:
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
    num_critics: number of networks C; two for clipped double Q-learning.
  """

  hidden_sizes: tuple[int, ...]
  activation: str = 'relu'
  num_critics: int = 2

  @nn.compact
  def __call__(
    self, obs: jax.Array, action: jax.Array, *, first: bool = False
  ) -> jax.Array:
    """Maps `obs` [..., O] and `action` [..., A] to values [..., C].

    With `first`, only the first critic is evaluated, to values [..., 1].
    """
    x = jnp.concatenate([obs, action], -1)
    # Not batched: XLA's CPU compiler turns a batch of networks into matrix
    # products that are 7% slower.
    values = [
      mlp.MLP(self.hidden_sizes, 1, self.activation, name=f'critic_{i}')(x)
      for i in range(1 if first else self.num_critics)
    ]
    return jnp.concatenate(values, -1)
