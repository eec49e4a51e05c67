"""The policy's tanh network, and its derivatives by hand.

  h_0 = x,    z_l = h_{l-1} W_l + b_l,    h_l = tanh(z_l),    output = z_L

An outer step differentiates this network a dozen times at the same samples, in
another direction each time. What does not depend on the direction is computed
once and kept, on a `Tape` and as `Cotangents`; the derivatives are then matrix
products and two passes over the samples per layer. With d_l and e_l the
cotangents of z_l and h_l, and R the derivative along a direction (V, c) of the
weights (Pearlmutter 1994):

  R z_l      = h_{l-1} V_l + c_l + R h_{l-1} W_l,    R h_l = (1 - h_l^2) R z_l
  grad W_l   = h_{l-1}^T d_l,    e_{l-1} = d_l W_l^T,    d_l = (1 - h_l^2) e_l
  R grad W_l = h_{l-1}^T R d_l + R h_{l-1}^T d_l
  R d_l      = (1 - h_l^2) (R d_{l+1} W_{l+1}^T + d_{l+1} V_{l+1}^T)
               - 2 h_l e_l R h_l

Layers are `{'w': [in, out], 'b': [out]}`. Samples, the rows above, are the last
axis of all arrays here, [in, B], so that whatever is elementwise, or a sum over
samples, runs along memory; in `apply`, for a few at a time, they lead.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting

Layers = list[dict[str, jax.Array]]
Tape = tuple[jax.Array, ...]


class Cotangents(NamedTuple):
  """What `pull_back_change` needs of `pull_back`, for every hidden layer l."""

  above: tuple[jax.Array, ...]  # d_{l+1}, [out, B]
  slopes: tuple[jax.Array, ...]  # of d_l in h_l: -2 h_l e_l, [in, B]


def apply(layers: Layers, x: jax.Array) -> jax.Array:
  """The output [..., out] at inputs `x` [..., in]."""
  for index, layer in enumerate(layers):
    x = _matmul(x, layer['w'])
    x = x + broadcasting.leading(layer['b'], x.ndim)
    if index < len(layers) - 1:
      x = jnp.tanh(x)
  return x


def spread(layers: Layers, shape: tuple[int, ...]) -> Layers:
  """Layers for `apply` at inputs [*shape, in], with a bias for each of them.

  The outputs are those of `layers`, whose weights are shared or lead with some
  of `shape` but its last axis. XLA vectorises tanh(z + b) only where b is as
  large as z; this is worth it where the same layers are applied many times.
  """
  return [
    {
      'w': layer['w'],
      'b': jnp.broadcast_to(
        jnp.expand_dims(layer['b'], -2), (*shape, layer['b'].shape[-1])
      ),
    }
    for layer in layers
  ]


def record(layers: Layers, x: jax.Array) -> tuple[jax.Array, Tape]:
  """The output [out, B] at inputs `x` [in, B], and the tape.

  The tape is h_0 to h_{L-1}, `[in, B]`.
  """
  tape = [x]
  for layer in layers[:-1]:
    tape.append(jnp.tanh(_affine(layer, tape[-1])))
  return _affine(layers[-1], tape[-1]), tuple(tape)


def push_forward(
  layers: Layers, tape: Tape, direction: Layers
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """The derivative along a direction of the weights.

  Returns:
    R z_L, that of the output, `[out, B]`; and R h_1 to R h_{L-1}.
  """
  change = _affine(direction[0], tape[0])
  changes: list[jax.Array] = []
  for layer, along, h in zip(layers[1:], direction[1:], tape[1:], strict=True):
    changes.append(_slope(h) * change)
    change = _affine(along, h) + _matmul(layer['w'].T, changes[-1])
  return change, tuple(changes)


def pull_back(
  layers: Layers, tape: Tape, cotangent: jax.Array
) -> tuple[Layers, Cotangents]:
  """The gradient from the output's cotangent d_L [out, B].

  And what its derivative needs of the cotangents on the way.
  """
  gradient: Layers = []
  above: list[jax.Array] = []
  slopes: list[jax.Array] = []
  d = cotangent
  for index in reversed(range(len(layers))):
    h = tape[index]
    gradient.insert(0, _gradient(h, d))
    if index:
      above.insert(0, d)
      e = _matmul(layers[index]['w'], d)
      slopes.insert(0, -2 * h * e)
      d = _slope(h) * e
  return gradient, Cotangents(tuple(above), tuple(slopes))


def pull_back_change(
  layers: Layers,
  tape: Tape,
  cotangents: Cotangents,
  direction: Layers,
  changes: tuple[jax.Array, ...],
  cotangent_change: jax.Array,
) -> Layers:
  """The derivative of `pull_back`'s gradient along a direction of the weights.

  Args:
    layers: the weights.
    tape: of `record`.
    cotangents: of `pull_back`.
    direction: (V, c).
    changes: R h_1 to R h_{L-1}, of `push_forward`.
    cotangent_change: R d_L, `[out, B]`.
  """
  result: Layers = []
  change = cotangent_change
  for index in reversed(range(len(layers))):
    gradient = _gradient(tape[index], change)
    if index:
      below, d = changes[index - 1], cotangents.above[index - 1]
      gradient['w'] += _over_samples(below, d)
      change = _matmul(layers[index]['w'], change)
      change += _matmul(direction[index]['w'], d)
      change = _slope(tape[index]) * change
      change += cotangents.slopes[index - 1] * below
    result.insert(0, gradient)
  return result


def _affine(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
  return _matmul(layer['w'].T, x) + layer['b'][:, None]


def _slope(h: jax.Array) -> jax.Array:
  """The derivative of tanh where its value is `h`."""
  return 1 - jnp.square(h)


def _gradient(h: jax.Array, d: jax.Array) -> dict[str, jax.Array]:
  return {'w': _over_samples(h, d), 'b': jnp.sum(d, -1)}


def _over_samples(a: jax.Array, b: jax.Array) -> jax.Array:
  """a b^T [in, out] of [in, B] and [out, B]."""
  return jnp.einsum('ib,ob->io', a, b, precision=jax.lax.Precision.HIGHEST)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
