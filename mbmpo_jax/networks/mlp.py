"""Fully connected networks."""

import functools
from collections.abc import Callable

import jax
from flax import linen as nn

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'relu': nn.relu,
  'swish': nn.swish,
  'tanh': nn.tanh,
}


class MLP(nn.Module):
  """Hidden layers, each with an activation, and a linear output layer.

  Attributes:
    hidden_sizes: units of each hidden layer.
    output_size: units of the output layer.
    activation: one of `ACTIVATIONS`.
    kernel_init: initialiser of all weights; biases start at zero.

  Example:
    >>> import jax.numpy as jnp
    >>> net = MLP((8, 8), 3)
    >>> params = net.init(jax.random.PRNGKey(0), jnp.zeros((1, 2)))
    >>> net.apply(params, jnp.zeros((5, 4, 2))).shape
    (5, 4, 3)
  """

  hidden_sizes: tuple[int, ...]
  output_size: int
  activation: str = 'relu'
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_uniform()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `x` [..., inputs] to [..., output_size]."""
    dense = functools.partial(
      nn.Dense, kernel_init=self.kernel_init, param_dtype=x.dtype
    )
    for size in self.hidden_sizes:
      x = ACTIVATIONS[self.activation](dense(size)(x))
    return dense(self.output_size)(x)
