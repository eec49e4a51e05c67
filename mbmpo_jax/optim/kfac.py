"""K-FAC: a Fisher matrix of Kronecker factors, and steps by its inverse.

A layer's output is W^T a, with a its inputs [I] and a 1 for the bias, and W
[I + 1, O] weights and biases. With g the gradient of log p(y | x) in the
output, y sampled from the model itself, the layer's block of the Fisher matrix
is E[a a^T (x) g g^T], which is taken for A (x) G:

  A = E[a a^T],    G = E[g g^T],    step = A^-1 dW G^-1

with dW the gradient of the loss (Martens & Grosse 2015, arXiv 1503.05671,
section 3). Blocks of different layers are taken for independent. Parameters
that are in no layer have a diagonal block, which is given: that of a Gaussian's
log-deviation, which does not depend on the state, is exactly 2 I.

The step v is scaled to eta v, eta = min(eta_max, sqrt(2 delta / v'Fv)), so that
by this Fisher matrix the policy moves by a KL of delta at most (Wu et al. 2017,
arXiv 1708.05144, section 4).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.networks import mlp
from mbmpo_jax.optim import linear

# Names of a layer's weights and biases: of flax's, and of `policies/mlp.py`.
_NAMES = (('kernel', 'bias'), ('w', 'b'))
_EPSILON = 1e-12


class Samples(NamedTuple):
  """What a layer's factors are means of, for samples B."""

  inputs: jax.Array  # a, [B, I + 1], of which the last is 1
  gradients: jax.Array  # g, [B, O]


class Factors(NamedTuple):
  """A layer's block of the Fisher matrix."""

  inputs: jax.Array  # A, [I + 1, I + 1]
  gradients: jax.Array  # G, [O, O]


class Diagonal(NamedTuple):
  """The block of parameters that are in no layer."""

  fisher: jax.Array  # the block's diagonal, of the parameters' shape


class State(NamedTuple):
  """Of the transformation."""

  steps: jax.Array  # int32, steps taken
  factors: Any  # running means: `Factors` and `Diagonal`
  velocity: Any  # like the parameters; () without momentum
  length: jax.Array  # eta of the last step
  kl: jax.Array  # of the last step, by the Fisher matrix: eta^2 v'Fv / 2


def kfac(
  max_length: jax.Array | float,
  *,
  max_kl: jax.Array | float,
  damping: jax.Array | float,
  decay: jax.Array | float = 0.95,
  momentum: jax.Array | float | None = None,
) -> optax.GradientTransformationExtraArgs:
  """The transformation of a loss's gradients to steps that descend.

  Its `update` takes one more argument, `samples`: a tree like the parameters
  with `Samples` in place of a layer and `Diagonal` in place of what is in none,
  from `record`. The losses' gradients are those of a mean over samples.

  Args:
    max_length: eta_max, the greatest step length.
    max_kl: delta.
    damping: lambda, about what is added to the Fisher matrix's diagonal.
    decay: weight of the past in the running means of A and G, once there is as
      much of it (section 5 of Martens & Grosse).
    momentum: weight of the previous direction v, if there is to be momentum.

  Example:
    One layer, one sample: of 3 x + 1, with the slope of a loss.

    >>> params = {'w': jnp.array([[3.0]]), 'b': jnp.array([1.0])}
    >>> slope = {'w': jnp.array([[2.0]]), 'b': jnp.array([2.0])}
    >>> optimizer = kfac(0.5, max_kl=1e3, damping=1e-6)
    >>> samples = record(params, jnp.ones((1, 1)), jnp.sum)
    >>> step, _ = optimizer.update(
    ...   slope, optimizer.init(params), samples=samples
    ... )
    >>> round(float(step['w'][0, 0] + step['b'][0]), 2)  # the output moves by
    -1.0
  """

  def init(params: types.Params) -> State:
    velocity: Any = ()
    if momentum is not None:
      velocity = jax.tree.map(jnp.zeros_like, params)
    # No two leaves share memory: XLA refuses to be donated it twice.
    return State(
      steps=jnp.zeros((), jnp.int32),
      factors=jax.tree.map(_no_factors, params, is_leaf=is_layer),
      velocity=velocity,
      length=jnp.zeros(()),
      kl=jnp.zeros(()),
    )

  def update(
    updates: types.Params,
    state: State,
    params: types.Params | None = None,
    *,
    samples: Any,
    **extra: Any,
  ) -> tuple[types.Params, State]:
    del params, extra
    steps = state.steps + 1
    # The mean of all so far, until there are enough of them.
    past = jnp.minimum(1 - 1 / steps.astype(float), decay)
    factors = jax.tree.map(
      lambda new, old: past * old + (1 - past) * new,
      factors_of(samples),
      state.factors,
    )
    direction = precondition(factors, updates, damping=damping)
    velocity = state.velocity
    if momentum is not None:
      velocity = direction = jax.tree.map(
        lambda old, new: momentum * old + new, velocity, direction
      )
    curvature = quadratic(factors, direction)
    length = jnp.minimum(
      max_length, jnp.sqrt(2 * max_kl / jnp.maximum(curvature, _EPSILON))
    )
    step = jax.tree.map(lambda x: -length * x, direction)
    kl = jnp.square(length) * curvature / 2
    return step, State(steps, factors, velocity, length, kl)

  return optax.GradientTransformationExtraArgs(init, update)


def record(
  params: types.Params,
  x: jax.Array,
  log_likelihood: Callable[[jax.Array], jax.Array],
  *,
  activation: str = 'tanh',
  diagonal: jax.Array | float = 1.0,
  mask: jax.Array | None = None,
) -> Any:
  """Inputs and output gradients of all layers of a fully connected network.

  The network is computed anew from its parameters, with a shift of 0 added to
  the output of each layer: the derivatives in these are g.

  Args:
    params: of `networks.mlp.MLP` or of `policies/mlp.py`, within any tree whose
      only layers they are; each feeds the next one.
    x: the network's inputs, `[B, I]`.
    log_likelihood: outputs `[B, O]` -> sum over samples of log p(y | outputs),
      with y sampled from p, as `sampled` gives it. Of a scalar output about
      which y is Gaussian with deviation sigma, the sum over outputs / sigma
      gives G itself without samples.
    activation: one of `mlp.ACTIVATIONS`, of all layers but the last.
    diagonal: the Fisher block's diagonal of what is in no layer.
    mask: `[B]`, 1. where a sample counts; the others become 0, and those that
      count as much larger as makes means over all samples theirs.

  Returns:
    A tree like `params` with `Samples` in place of each layer, and `Diagonal`
    in place of every other leaf.

  Example:
    >>> params = mlp.MLP((8,), 3).init(jax.random.PRNGKey(0), jnp.ones((1, 2)))
    >>> samples = record(params, jnp.ones((5, 2)), jnp.sum, activation='relu')
    >>> samples['params']['Dense_1'].inputs.shape
    (5, 9)
  """
  chex.assert_rank(x, 2)
  flat, tree = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_layer)
  paths = [jax.tree_util.keystr(path) for path, _ in flat]
  # Layer 10 comes after layer 9.
  order = sorted(
    (i for i, (_, leaf) in enumerate(flat) if is_layer(leaf)),
    key=lambda i: (len(paths[i]), paths[i]),
  )
  matrices = [_matrix(flat[i][1]) for i in order]
  shifts = [jnp.zeros((x.shape[0], m.shape[1]), x.dtype) for m in matrices]

  def run(shifts: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    h, inputs = x, []
    for index, (matrix, shift) in enumerate(zip(matrices, shifts, strict=True)):
      if index > 0:
        h = mlp.ACTIVATIONS[activation](h)
      inputs.append(jnp.concatenate([h, jnp.ones_like(h[:, :1])], 1))
      h = linear.dot(inputs[-1], matrix) + shift
    return log_likelihood(h), inputs

  gradients, inputs = jax.grad(run, has_aux=True)(shifts)
  if mask is not None:
    share = jnp.maximum(jnp.mean(mask), 1 / mask.shape[0])
    weight = jnp.sqrt(mask / share)[:, None]
    gradients, inputs = jax.tree.map(
      lambda x: jnp.where(weight > 0, weight * x, 0.0), (gradients, inputs)
    )
  leaves: list[Any] = [
    None if is_layer(leaf) else Diagonal(jnp.full_like(leaf, diagonal))
    for _, leaf in flat
  ]
  for i, a, g in zip(order, inputs, gradients, strict=True):
    leaves[i] = Samples(a, g)
  return jax.tree.unflatten(tree, leaves)


def sampled(
  to_distribution: Callable[[jax.Array], Any], noise: Any
) -> Callable[[jax.Array], jax.Array]:
  """A log-likelihood for `record`, of actions that the model samples.

  Args:
    to_distribution: a network's outputs `[B, O]` -> `Distribution` `[B]`.
    noise: that its samples are made of, `[B, ...]`.
  """

  def log_likelihood(outputs: jax.Array) -> jax.Array:
    dist = to_distribution(outputs)
    action = jax.lax.stop_gradient(dist.sample(noise))
    return jnp.sum(dist.log_prob(action))

  return log_likelihood


def factors_of(samples: Any) -> Any:
  """The factors A and G of samples: a tree of `Factors` and `Diagonal`."""

  def mean(x: jax.Array) -> jax.Array:
    return linear.dot(x.T, x) / x.shape[0]

  def of(leaf: Samples | Diagonal) -> Factors | Diagonal:
    if isinstance(leaf, Diagonal):
      return leaf
    chex.assert_equal_shape_prefix([leaf.inputs, leaf.gradients], 1)
    return Factors(mean(leaf.inputs), mean(leaf.gradients))

  return jax.tree.map(of, samples, is_leaf=_is_block)


def precondition(
  factors: Any, gradient: types.Params, *, damping: jax.Array | float
) -> types.Params:
  """(A + pi sqrt(lambda) I)^-1 dW (G + sqrt(lambda) / pi I)^-1, layer by layer.

  pi^2 is the mean eigenvalue of A over that of G (Martens & Grosse 2015,
  section 6.3). What is in no layer is divided by its diagonal + lambda.

  Args:
    factors: `Factors` and `Diagonal`.
    gradient: dW and others, like the parameters.
    damping: lambda.
  """

  def of(factors: Factors | Diagonal, gradient: Any) -> Any:
    if isinstance(factors, Diagonal):
      return gradient / (factors.fisher + damping)
    a, g = factors
    pi = jnp.sqrt(_mean_eigenvalue(a) / _mean_eigenvalue(g))
    root = jnp.sqrt(damping)
    half = linear.solve(_plus_identity(a, root * pi), _matrix(gradient))
    whole = linear.solve(_plus_identity(g, root / pi), half.T).T
    return _layer(whole, gradient)

  return jax.tree.map(of, factors, gradient, is_leaf=_is_block)


def quadratic(factors: Any, direction: types.Params) -> jax.Array:
  """v'Fv, without damping: over layers the sum of tr(V^T A V G)."""

  def of(factors: Factors | Diagonal, v: Any) -> jax.Array:
    if isinstance(factors, Diagonal):
      return jnp.sum(factors.fisher * jnp.square(v))
    v = _matrix(v)
    product = linear.dot(linear.dot(factors.inputs, v), factors.gradients)
    return jnp.sum(v * product)

  terms = jax.tree.map(of, factors, direction, is_leaf=_is_block)
  return jnp.sum(jnp.stack(jax.tree.leaves(terms)))


def is_layer(tree: Any) -> bool:
  """Whether a tree is the weights and biases of one layer."""
  return isinstance(tree, dict) and set(tree) in map(set, _NAMES)


def _is_block(tree: Any) -> bool:
  return isinstance(tree, Samples | Factors | Diagonal)


def _no_factors(leaf: Any) -> Factors | Diagonal:
  if not is_layer(leaf):
    return Diagonal(jnp.zeros_like(leaf))
  size, outputs = _matrix(leaf).shape
  return Factors(jnp.zeros((size, size)), jnp.zeros((outputs, outputs)))


def _names(layer: dict[str, jax.Array]) -> tuple[str, str]:
  return next(names for names in _NAMES if names[0] in layer)


def _matrix(layer: dict[str, jax.Array]) -> jax.Array:
  """W [I + 1, O]: the weights, and the biases as the last row."""
  weights, biases = (layer[name] for name in _names(layer))
  return jnp.concatenate([weights, broadcasting.leading(biases, 2)])


def _layer(
  matrix: jax.Array, like: dict[str, jax.Array]
) -> dict[str, jax.Array]:
  """The layer of a matrix W, named as that one."""
  weights, biases = _names(like)
  return {weights: matrix[:-1], biases: matrix[-1]}


def _mean_eigenvalue(matrix: jax.Array) -> jax.Array:
  return jnp.maximum(jnp.trace(matrix) / matrix.shape[0], _EPSILON)


def _plus_identity(matrix: jax.Array, scale: jax.Array) -> jax.Array:
  return matrix + scale * jnp.eye(matrix.shape[0], dtype=matrix.dtype)
