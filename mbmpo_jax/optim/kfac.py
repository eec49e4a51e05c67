"""K-FAC: natural-gradient steps with a Kronecker-factored Fisher matrix.

The output of a layer is W^T a. Here a [I + 1] holds the layer's inputs and a 1
for the bias, and W [I + 1, O] the weights and biases. Let g be the gradient of
log p(y | x) in the output, with y sampled from the model itself. The layer's
block of the Fisher matrix, E[a a^T (x) g g^T], is approximated by A (x) G:

  A = E[a a^T],    G = E[g g^T],    step = A^-1 dW G^-1

with dW the gradient of the loss (Martens & Grosse 2015, arXiv 1503.05671,
section 3). Different layers are treated as independent. Parameters that belong
to no layer have a diagonal block, which the caller gives. For a Gaussian's
log-deviation that does not depend on the state, this block is exactly 2 I.

The step direction v is scaled to eta v, eta = min(eta_max, sqrt(2 delta /
v'Fv)). By this Fisher matrix the policy then moves by a KL of at most delta (Wu
et al. 2017, arXiv 1708.05144, section 4).
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

# Names of a layer's weights and biases, in flax and in `policies/mlp.py`.
_NAMES = (('kernel', 'bias'), ('w', 'b'))
_EPSILON = 1e-12


class Samples(NamedTuple):
  """Inputs and output gradients of one layer for samples B."""

  # With a mask, both are multiplied by sqrt(mask / share of live samples).
  inputs: jax.Array  # a, [B, I + 1]; the last entry is 1
  gradients: jax.Array  # g, [B, O]


class Factors(NamedTuple):
  """The Kronecker factors of one layer's block of the Fisher matrix."""

  inputs: jax.Array  # A, [I + 1, I + 1]
  gradients: jax.Array  # G, [O, O]


class Diagonal(NamedTuple):
  """The block of parameters that belong to no layer."""

  fisher: jax.Array  # the block's diagonal, shaped like the parameters


class State(NamedTuple):
  """The state of the gradient transformation."""

  steps: jax.Array  # int32, number of steps taken
  factors: Any  # running means, a tree of `Factors` and `Diagonal`
  velocity: Any  # like the parameters; () without momentum
  length: jax.Array  # eta of the last step
  kl: jax.Array  # of the last step by the Fisher matrix, eta^2 v'Fv / 2


def kfac(
  max_length: jax.Array | float,
  *,
  max_kl: jax.Array | float,
  damping: jax.Array | float,
  decay: jax.Array | float = 0.95,
  momentum: jax.Array | float | None = None,
) -> optax.GradientTransformationExtraArgs:
  """The optax transformation from gradients of a loss to descent steps.

  Its `update` takes an additional argument `samples`, from `record`. This is a
  tree like the parameters, with `Samples` in place of each layer and `Diagonal`
  in place of each other parameter. The gradients must be those of a mean over
  samples.

  Args:
    max_length: eta_max, the greatest step length.
    max_kl: delta.
    damping: lambda; about this much is added to the Fisher matrix's diagonal.
    decay: weight of the past in the running means of A and G (section 5 of
      Martens & Grosse). The first steps use the plain mean of all steps so far.
    momentum: weight of the previous direction v; `None` for no momentum.

  Example:
    One layer 3 x + 1 and one sample, with the given gradient of a loss.

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
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
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
    # The plain mean of all steps, until its weight of the past reaches `decay`.
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

  The network is recomputed from its parameters, with a zero shift added to the
  output of each layer. The derivatives in the shifts are g.

  Args:
    params: of `networks.mlp.MLP` or of `policies/mlp.py`, in any tree that has
      no other layers. Each layer feeds the next one.
    x: the network's inputs, `[B, I]`.
    log_likelihood: outputs `[B, O]` -> sum over samples of log p(y | outputs),
      with y sampled from p, as `sampled` gives it. For a scalar output with
      Gaussian y of deviation sigma, the sum of outputs / sigma gives the exact
      G without sampling.
    activation: of all layers but the last, one of `mlp.ACTIVATIONS`.
    diagonal: the diagonal of the Fisher matrix for parameters in no layer.
    mask: `[B]`, 1. where a sample counts. The other samples become 0, and those
      that count are scaled up, so that means of products over all samples equal
      those over the samples that count.

  Returns:
    A tree like `params`, with `Samples` in place of each layer and `Diagonal`
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
  # Sorted by length first, so that layer 10 comes after layer 9.
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
  """A log-likelihood for `record`, of actions sampled from the model.

  Args:
    to_distribution: a network's outputs `[B, O]` -> `Distribution` `[B]`.
    noise: from which the actions are sampled, `[B, ...]`.
  """

  def log_likelihood(outputs: jax.Array) -> jax.Array:
    dist = to_distribution(outputs)
    action = jax.lax.stop_gradient(dist.sample(noise))
    return jnp.sum(dist.log_prob(action))

  return log_likelihood


def factors_of(samples: Any) -> Any:
  """The factors A and G of `samples`: a tree of `Factors` and `Diagonal`."""

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

  pi^2 is the mean eigenvalue of A divided by that of G (Martens & Grosse 2015,
  section 6.3). The gradient of a parameter in no layer is divided by the
  diagonal + lambda.

  Args:
    factors: a tree of `Factors` and `Diagonal`.
    gradient: dW of the layers and gradients of the rest, like the parameters.
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
  """v'Fv without damping: the sum over layers of tr(V^T A V G)."""

  def of(factors: Factors | Diagonal, v: Any) -> jax.Array:
    if isinstance(factors, Diagonal):
      return jnp.sum(factors.fisher * jnp.square(v))
    v = _matrix(v)
    product = linear.dot(linear.dot(factors.inputs, v), factors.gradients)
    return jnp.sum(v * product)

  terms = jax.tree.map(of, factors, direction, is_leaf=_is_block)
  return jnp.sum(jnp.stack(jax.tree.leaves(terms)))


def is_layer(tree: Any) -> bool:
  """Whether a tree holds the weights and biases of one layer."""
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
  """The layer with the matrix W, with the names of `like`."""
  weights, biases = _names(like)
  return {weights: matrix[:-1], biases: matrix[-1]}


def _mean_eigenvalue(matrix: jax.Array) -> jax.Array:
  return jnp.maximum(jnp.trace(matrix) / matrix.shape[0], _EPSILON)


def _plus_identity(matrix: jax.Array, scale: jax.Array) -> jax.Array:
  return matrix + scale * jnp.eye(matrix.shape[0], dtype=matrix.dtype)
