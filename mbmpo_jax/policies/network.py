"""The policy's tanh network, and its derivatives by hand.

  h_0 = x,    z_l = h_{l-1} W_l + b_l,    h_l = tanh(z_l),    output = z_L

An outer step differentiates this network a dozen times at the same samples, in
another direction each time. What does not depend on the direction is computed
once and kept, on a `Tape`; the derivatives are then matrix products and two or
three passes over the samples per layer. With d_l the cotangent of z_l and R the
derivative along a direction (V, c) of the weights (Pearlmutter 1994):

  R z_l     = h_{l-1} V_l + c_l + R h_{l-1} W_l,    R h_l = (1 - h_l^2) R z_l
  grad W_l  = h_{l-1}^T d_l,    d_{l-1} = (1 - h_{l-1}^2) (d_l W_l^T)
  R grad W_l = h_{l-1}^T R d_l + R h_{l-1}^T d_l
  R d_{l-1} = (1 - h_{l-1}^2) (R d_l W_l^T + d_l V_l^T)
              - 2 h_{l-1} d_{l-1} R z_{l-1}

Layers are `{'w': [in, out], 'b': [out]}`; samples lead with one axis B. What is
summed over them has its left factor transposed beforehand: XLA's matrix
products on a CPU are fast in that layout only.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting

Layers = list[dict[str, jax.Array]]


class Tape(NamedTuple):
  """What the forward pass leaves behind; one entry per layer."""

  inputs: tuple[jax.Array, ...]  # h_0 to h_{L-1}, [B, in]
  transposed: tuple[jax.Array, ...]  # the same, [in, B]


class Cotangents(NamedTuple):
  """What the backward pass leaves behind; one entry per layer."""

  cotangents: tuple[jax.Array, ...]  # d_1 to d_L, [B, out]
  transposed: tuple[jax.Array, ...]  # the same, [out, B]


def apply(layers: Layers, x: jax.Array) -> jax.Array:
  """The output [..., out] at inputs `x` [..., in]."""
  return _forward(layers, x)[0]


def record(layers: Layers, x: jax.Array) -> tuple[jax.Array, Tape]:
  """The output [B, out] at inputs `x` [B, in], and the tape."""
  output, inputs = _forward(layers, x)
  return output, Tape(inputs, tuple(h.T for h in inputs))


def push_forward(
  layers: Layers, tape: Tape, direction: Layers
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """The derivative along a direction of the weights.

  Returns:
    R z_L, that of the output, `[B, out]`; and R z_1 to R z_{L-1}.
  """
  changes: list[jax.Array] = []
  for index, (layer, along) in enumerate(zip(layers, direction, strict=True)):
    h = tape.inputs[index]
    change = _affine(along, h)
    if index:
      change += _product(_slope(h) * changes[-1], layer['w'])
    changes.append(change)
  return changes[-1], tuple(changes[:-1])


def pull_back(
  layers: Layers, tape: Tape, cotangent: jax.Array
) -> tuple[Layers, Cotangents]:
  """The gradient from the output's cotangent d_L [B, out], and all of d."""
  gradient: Layers = []
  cotangents = [cotangent]
  for index in reversed(range(len(layers))):
    d = cotangents[0]
    gradient.insert(0, _gradient(tape.transposed[index], d))
    if index:
      d = _product(d, layers[index]['w'].T) * _slope(tape.inputs[index])
      cotangents.insert(0, d)
  transposed = tuple(d.T for d in cotangents)
  return gradient, Cotangents(tuple(cotangents), transposed)


def pull_back_change(
  layers: Layers,
  tape: Tape,
  backward: Cotangents,
  direction: Layers,
  changes: tuple[jax.Array, ...],
  cotangent_change: jax.Array,
) -> Layers:
  """The derivative of `pull_back`'s gradient along a direction of the weights.

  Args:
    layers: the weights.
    tape: of `record`.
    backward: of `pull_back`.
    direction: (V, c).
    changes: R z_1 to R z_{L-1}, of `push_forward`.
    cotangent_change: R d_L, `[B, out]`.
  """
  result: Layers = []
  change = cotangent_change
  for index in reversed(range(len(layers))):
    h = tape.inputs[index]
    gradient = _gradient(tape.transposed[index], change)
    if index:
      slope, below = _slope(h), changes[index - 1]
      product = _product(backward.transposed[index], slope * below)
      # XLA would fold the transposition into the product, and slow it.
      gradient['w'] += jax.lax.optimization_barrier(product).T
      change = slope * (
        _product(change, layers[index]['w'].T)
        + _product(backward.cotangents[index], direction[index]['w'].T)
      ) - (2 * h * backward.cotangents[index - 1] * below)
    result.insert(0, gradient)
  return result


def _forward(
  layers: Layers, x: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  inputs = [x]
  for layer in layers[:-1]:
    inputs.append(jnp.tanh(_affine(layer, inputs[-1])))
  return _affine(layers[-1], inputs[-1]), tuple(inputs)


def _affine(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
  product = _product(x, layer['w'])
  return product + broadcasting.leading(layer['b'], product.ndim)


def _slope(h: jax.Array) -> jax.Array:
  """The derivative of tanh where its value is `h`."""
  return 1 - jnp.square(h)


def _gradient(transposed: jax.Array, d: jax.Array) -> dict[str, jax.Array]:
  return {'w': _product(transposed, d), 'b': jnp.sum(d, 0)}


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
