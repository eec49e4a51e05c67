"""The tanh network and its Gaussian for many samples at once, [..., B].

A policy step differentiates the network about a dozen times at the same
samples, in different directions. With samples on the last axis, elementwise
operations and sums over samples read memory in order. JAX's derivatives of
`jnp.matmul` and `jnp.tanh` change that layout and keep more arrays than needed.
Therefore both are primitives here, and the set is closed under differentiation:

  forward(w, x) = w^T x,    backward(w, d) = w d,    outer(x, d) = x d^T,

are the three derivatives of sum_b x_b^T w d_b. The transposes of each one are
the other two. With h = tanh(z),

  slope(h, t) = (1 - h^2) t,    d slope = (1 - h^2) dt - 2 h t dh.

A linearisation keeps only h and h t. `WORKSPACE.md` reports the gain in speed.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.extend
import jax.numpy as jnp
from jax.interpreters import ad
from jax.interpreters import batching
from jax.interpreters import mlir

from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import mlp

# The contraction of each product.
_CONTRACTIONS = {
  'forward': 'io,ib->ob',
  'backward': 'io,ob->ib',
  'outer': 'ib,ob->io',
}
# The products that transpose each product, in its first and second operand,
# with the indices of their operands in (first, second, cotangent).
_TRANSPOSES = {
  'forward': (('outer', 1, 2), ('backward', 0, 2)),
  'backward': (('outer', 2, 1), ('forward', 0, 2)),
  'outer': (('backward', 2, 1), ('forward', 2, 0)),
}


def apply(layers: mlp.Layers, x: jax.Array) -> jax.Array:
  """The output [out, B] of `mlp.apply` at inputs `x` [in, B]."""
  for index, layer in enumerate(layers):
    x = product(layer['w'], x) + layer['b'][:, None]
    if index < len(layers) - 1:
      x = tanh(x)
  return x


def product(w: jax.Array, x: jax.Array) -> jax.Array:
  """w^T x, [out, B], with weights [in, out] and inputs [in, B].

  Computed at the full precision of its type, as are its derivatives.
  """
  return _product_p.bind(w, x, kind='forward')


@jax.custom_jvp
def tanh(z: jax.Array) -> jax.Array:
  """tanh, elementwise."""
  return jnp.tanh(z)


@tanh.defjvp
def _tanh_jvp(
  primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
  h = tanh(*primals)
  return h, _slope_p.bind(h, *tangents)


@flax.struct.dataclass
class Gaussian:
  """`distributions.Gaussian` with samples on the last axis of its fields.

  The methods take and return batches `[T, N]`, where B = T N.
  """

  mean: jax.Array  # [A, B]
  log_std: jax.Array  # [A, B], or [A, 1] if the same for all samples
  shape: tuple[int, ...] = flax.struct.field(pytree_node=False)  # [T, N]

  def sample(self, noise: jax.Array) -> jax.Array:
    """mu + sigma * noise, [T, N, A]."""
    return self._samples_first.sample(noise)

  def mode(self) -> jax.Array:
    """mu [T, N, A]."""
    return self._samples_first.mode()

  def to_env(self, raw: jax.Array) -> jax.Array:
    """The action clipped to [-1, 1]."""
    return self._samples_first.to_env(raw)

  def log_prob(self, raw: jax.Array) -> jax.Array:
    """log pi [T, N] of raw actions [T, N, A]."""
    raw = raw.reshape(-1, raw.shape[-1]).T
    return self._batch(self._samples_last.log_prob(raw, axis=0))

  def log_prob_of_noise(self, noise: jax.Array) -> jax.Array:
    """log pi [T, N] of the actions that `sample` computes from `noise`."""
    noise = noise.reshape(-1, noise.shape[-1]).T
    return self._batch(self._samples_last.log_prob_of_noise(noise, axis=0))

  def entropy(self) -> jax.Array:
    """The entropy [T, N], or [1, 1] if it is the same for all samples."""
    return self._batch(self._samples_last.entropy(axis=0))

  def kl(self, other: 'Gaussian') -> jax.Array:
    """KL(self || other) [T, N]."""
    return self._batch(self._samples_last.kl(other._samples_last, axis=0))

  @property
  def _samples_last(self) -> distributions.Gaussian:
    return distributions.Gaussian(self.mean, self.log_std)

  @property
  def _samples_first(self) -> distributions.Gaussian:
    def first(x: jax.Array) -> jax.Array:
      return self._batch(x.T)

    return distributions.Gaussian(first(self.mean), first(self.log_std))

  def _batch(self, x: jax.Array) -> jax.Array:
    """Replaces the axis of samples, [B, ...], by the batch axes [T, N, ...]."""
    size, *rest = x.shape
    whole = size == math.prod(self.shape)
    shape = self.shape if whole else (1,) * len(self.shape)
    return x.reshape(*shape, *rest)


def _multiply(a: jax.Array, b: jax.Array, *, kind: str) -> jax.Array:
  precision = jax.lax.Precision.HIGHEST
  if kind == 'forward':
    return jnp.matmul(a.T, b, precision=precision)
  return jnp.einsum(_CONTRACTIONS[kind], a, b, precision=precision)


def _product_shape(a: Any, b: Any, *, kind: str) -> jax.core.ShapedArray:
  operands, result = _CONTRACTIONS[kind].split('->')
  names = operands.replace(',', '')
  sizes = dict(zip(names, (*a.shape, *b.shape), strict=True))
  return jax.core.ShapedArray(tuple(sizes[name] for name in result), a.dtype)


def _product_transpose(operand: int) -> Callable[..., jax.Array]:
  """The transpose rule of a product in its first or second operand."""

  def rule(ct: Any, a: Any, b: Any, *, kind: str) -> jax.Array:
    transpose, first, second = _TRANSPOSES[kind][operand]
    values = (a, b, ct)
    return _product_p.bind(values[first], values[second], kind=transpose)

  return rule


def _scale(h: jax.Array, t: jax.Array) -> jax.Array:
  return (1 - jnp.square(h)) * t


def _slope_jvp(
  primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Any, Any]:
  (h, t), (h_change, t_change) = primals, tangents
  changes = []  # at least one of the two varies
  if not isinstance(t_change, ad.Zero):
    changes.append(_slope_p.bind(h, t_change))
  if not isinstance(h_change, ad.Zero):
    changes.append((-2 * h * t) * h_change)
  return _slope_p.bind(h, t), functools.reduce(operator.add, changes)


def _slope_transpose(ct: Any, h: Any, t: Any) -> tuple[None, Any]:
  del t
  return None, ct if isinstance(ct, ad.Zero) else _slope_p.bind(h, ct)


def _primitive(
  name: str, fn: Callable[..., jax.Array], shape: Callable[..., Any]
) -> Any:
  """`fn` as a primitive, without derivative rules."""
  primitive = jax.extend.core.Primitive(name)
  primitive.def_impl(fn)
  primitive.def_abstract_eval(shape)
  mlir.register_lowering(primitive, mlir.lower_fun(fn, multiple_results=False))

  def batch(args: Any, axes: Any, **params: Any) -> tuple[jax.Array, int]:
    return jax.vmap(lambda *x: fn(*x, **params), axes)(*args), 0

  batching.primitive_batchers[primitive] = batch
  return primitive


_product_p = _primitive('samples_last_product', _multiply, _product_shape)
ad.defbilinear(_product_p, _product_transpose(0), _product_transpose(1))

_slope_p = _primitive(
  'tanh_slope', _scale, lambda h, t: jax.core.ShapedArray(t.shape, t.dtype)
)
ad.primitive_jvps[_slope_p] = _slope_jvp
ad.primitive_transposes[_slope_p] = _slope_transpose
