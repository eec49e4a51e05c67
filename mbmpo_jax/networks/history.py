"""Networks with a history as input: a GRU, followed by an MLP."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax.networks import mlp


class _Step(nn.Module):
  """One step of a GRU; a masked step leaves the state unchanged."""

  units: int

  @nn.compact
  def __call__(
    self, state: jax.Array, inputs: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, None]:
    x, mask = inputs
    # Not orthogonal: its decomposition is a batched LAPACK call.
    cell = nn.GRUCell(
      self.units,
      kernel_init=nn.initializers.lecun_uniform(),
      recurrent_kernel_init=nn.initializers.lecun_uniform(),
      param_dtype=x.dtype,
    )
    after, _ = cell(state, x)
    return jnp.where(mask[..., None] > 0, after, state), None


class Encoder(nn.Module):
  """The state of a GRU after a window of steps (Cho et al. 2014).

    r = sig(W_ir x + b_ir + W_hr h)
    u = sig(W_iz x + b_iz + W_hz h)
    n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    h <- (1 - u) n + u h,  with h = 0 before the first step

  Attributes:
    units: size of the GRU's state, Z.
  """

  units: int

  @nn.compact
  def __call__(self, features: jax.Array, mask: jax.Array) -> jax.Array:
    """h `[..., Z]` after the steps [L] of `features` [..., L, D], oldest first.

    Steps where `mask` [..., L] is 0 are skipped.
    """
    chex.assert_equal_shape([features[..., 0], mask])
    scan = nn.scan(
      _Step, variable_broadcast='params', split_rngs={'params': False}
    )
    axis = mask.ndim - 1
    inputs = (jnp.moveaxis(features, axis, 0), jnp.moveaxis(mask, axis, 0))
    state = jnp.zeros((*mask.shape[:-1], self.units), features.dtype)
    state, _ = scan(self.units, name='gru')(state, inputs)
    return state


class Network(nn.Module):
  """An MLP whose inputs include the state of a GRU after a history.

  Without a history it is a plain MLP.

  Attributes:
    hidden_sizes: units of each hidden layer.
    output_size: units of the output layer.
    activation: one of `mlp.ACTIVATIONS`.
    units: size of the GRU's state.
  """

  hidden_sizes: tuple[int, ...]
  output_size: int
  activation: str = 'swish'
  units: int = 32

  @nn.compact
  def __call__(
    self, x: jax.Array, history: tuple[jax.Array, jax.Array] | None
  ) -> jax.Array:
    """Maps `x` [..., I] to [..., output_size].

    Args:
      x: inputs of the MLP.
      history: features `[..., L, D]` and mask `[..., L]`, the inputs of
        `Encoder`; or `None`.
    """
    if history is not None:
      x = jnp.concatenate([Encoder(self.units)(*history), x], -1)
    return mlp.MLP(self.hidden_sizes, self.output_size, self.activation)(x)


class Critics(nn.Module):
  """Action values Q(h, s, a) of several independent networks.

  Attributes:
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
    units: size of the GRU's state; every network has its own GRU.
    num_critics: number of networks C.
  """

  hidden_sizes: tuple[int, ...]
  activation: str = 'swish'
  units: int = 32
  num_critics: int = 2

  @nn.compact
  def __call__(
    self, obs: jax.Array, window: Any, action: jax.Array
  ) -> jax.Array:
    """Maps `obs` [..., O], its history and `action` [..., A] to [..., C]."""
    x = jnp.concatenate([obs, action], -1)
    history = of_window(window)
    values = [
      Network(
        self.hidden_sizes, 1, self.activation, self.units, name=f'critic_{i}'
      )(x, history)
      for i in range(self.num_critics)
    ]
    return jnp.concatenate(values, -1)


def of_window(window: Any) -> tuple[jax.Array, jax.Array] | None:
  """The `history` input of `Network` for a `Window`; `None` for ()."""
  if isinstance(window, tuple) and not window:
    return None
  return window.features, window.mask
