"""The evidence lower bound, and the split of a task's points."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate
from mbmpo_jax.objectives import elbo
from tests import test_neural_process as tests

PARTICLES = 3

bound = jax.jit(
  functools.partial(elbo.loss, num_particles=PARTICLES), static_argnums=0
)


def kl(mean, log_std, prior_mean, prior_log_std):
  """Of two diagonal Gaussians, dimension by dimension."""
  total = 0.0
  for m, s, pm, ps in zip(
    mean, np.exp(log_std), prior_mean, np.exp(prior_log_std), strict=True
  ):
    total += np.log(ps / s) + (s**2 + (m - pm) ** 2) / (2 * ps**2) - 0.5
  return total


def log_density(y, mean, log_std):
  std = np.exp(log_std)
  return np.sum(
    -0.5 * ((y - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
  )


def reference(kind, params, context, targets, key, kl_weight=1.0):
  """Equation 10 over T, with loops over targets and particles."""
  p = params['params']
  xs, ys = tests.alive(targets)
  rows = targets.mask.shape[0] if kind == 'graph' else 1
  noise = np.asarray(jax.random.normal(key, (PARTICLES, rows, 3)))
  if kind == 'graph':
    _, _, r_c = tests.reference_graph(p, context, 3.0)
    posteriors = [
      tests.head(p, tests.reference_target(p, context, x, 3.0)) for x in xs
    ]
  else:  # MLSM-v1 adds the attention to what is decoded.
    r_c = tests.reference_mean(p, context)
    pooled = tests.reference_mean(p, context, targets)
    posteriors = [tests.head(p, pooled)]
  prior = tests.head(p, r_c)
  total = 0.0
  for t, (x, y) in enumerate(zip(xs, ys, strict=True)):
    mean, log_std = posteriors[t if kind == 'graph' else 0]
    for k in range(PARTICLES):
      drawn = noise[k, t if kind == 'graph' else 0]
      z = mean + np.exp(log_std) * drawn
      known = [x, z]
      if kind == 'attentive':
        known.append(tests.reference_attention(p, context, x))
      density = tests.output(p, np.concatenate(known))
      total -= log_density(y, *density) / PARTICLES
  total += kl_weight * sum(kl(*q, *prior) for q in posteriors)
  return total / len(xs)


@pytest.mark.parametrize('kind', ['graph', 'mean', 'attentive'])
@pytest.mark.parametrize('kl_weight', [1.0, 0.3])
def test_the_bound(kind, kl_weight, x64):
  net, params = tests.network(kind)
  context, targets = tests.points(5, 7), tests.points(4, 6, seed=5)
  key = jax.random.PRNGKey(8)
  loss, info = bound(net, params, context, targets, key, kl_weight=kl_weight)
  expected = reference(kind, params, context, targets, key, kl_weight)
  np.testing.assert_allclose(loss, expected, rtol=1e-10)
  np.testing.assert_allclose(info.nll + kl_weight * info.kl, loss, rtol=1e-12)
  assert info.kl > 1e-4


@pytest.mark.parametrize(
  'kind',
  [
    'graph',
    pytest.param('mean', marks=pytest.mark.slow),
    pytest.param('attentive', marks=pytest.mark.slow),
  ],
)
def test_its_gradient_is_that_of_finite_differences(kind, x64):
  """In random directions through all parameters; padding holds NaN."""
  net, params = tests.network(kind)
  context, targets = tests.points(5, 7), tests.points(4, 6, seed=5)

  def spoil(points):
    dead = points.mask[:, None] == 0
    return points._replace(
      x=jnp.where(dead, jnp.nan, points.x), y=jnp.where(dead, jnp.inf, points.y)
    )

  @jax.jit
  def value(params):
    args = spoil(context), spoil(targets), jax.random.PRNGKey(8)
    return elbo.loss(net, params, *args, num_particles=PARTICLES)[0]

  grads = jax.jit(jax.grad(value))(params)
  h, rng = 1e-6, np.random.default_rng(0)
  for _ in range(3):
    leaves, tree = jax.tree.flatten(params)
    way = [rng.normal(size=leaf.shape) for leaf in leaves]
    slope = sum(
      np.vdot(g, w) for g, w in zip(jax.tree.leaves(grads), way, strict=True)
    )
    ahead, behind = (
      value(
        tree.unflatten([x + sign * w for x, w in zip(leaves, way, strict=True)])
      )
      for sign in (h, -h)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5)


def test_without_targets_there_is_nothing_to_learn():
  net, params = tests.network('mean')
  targets = tests.points(0, 6, seed=5)

  def value(params):
    args = tests.points(5, 7), targets, jax.random.PRNGKey(0)
    return elbo.loss(net, params, *args, num_particles=1)[0]

  loss, grads = jax.jit(jax.value_and_grad(value))(params)
  assert loss == 0
  assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(grads))


def numbered(count: int, room: int) -> sets.Points:
  """Points that say which they are; padding says -1."""
  number = jnp.where(jnp.arange(room) < count, jnp.arange(room), -1)
  column = number[:, None].astype(float)
  return sets.Points(column, -column, (number >= 0).astype(float))


@functools.cache
def splitter(context_size: int = 5, target_size: int = 6):
  return jax.jit(
    jax.vmap(
      functools.partial(
        elbo.split, context_size=context_size, target_size=target_size
      ),
      in_axes=(None, 0),
    )
  )


def drawn(points: sets.Points) -> list[int]:
  return [int(x) for x in np.asarray(points.x)[np.asarray(points.mask) > 0, 0]]


@pytest.mark.parametrize(
  ('count', 'room', 'targets'),
  [(9, 12, (4, 6)), (3, 12, (1, 2)), (1, 2, (1, 1))],
)
def test_a_split_is_disjoint_and_leaves_targets(count, room, targets):
  contexts, rests = jax.tree.map(
    np.asarray,
    splitter()(
      numbered(count, room), jax.random.split(jax.random.PRNGKey(0), 40)
    ),
  )
  sizes = set()
  for i in range(40):
    context, rest = (
      drawn(jax.tree.map(lambda x, i=i: x[i], s)) for s in (contexts, rests)
    )
    both = context + rest
    assert len(set(both)) == len(both)
    assert set(both) <= set(range(count))
    assert targets[0] <= len(rest) <= targets[1]
    assert len(both) == min(count, len(context) + 6)
    sizes.add(len(context))
  expected = range(1, min(5, count - 1) + 1) if count > 1 else [0]
  assert sizes == set(expected)


def test_a_split_is_uniform_over_points_and_sizes():
  keys = jax.random.split(jax.random.PRNGKey(1), 4000)
  contexts, _ = splitter()(numbered(9, 12), keys)
  sizes = np.sum(contexts.mask, -1).astype(int)
  np.testing.assert_allclose(np.bincount(sizes)[1:], 800, atol=120)
  live = np.asarray(contexts.mask) > 0
  times = np.bincount(np.asarray(contexts.x)[..., 0][live].astype(int))
  np.testing.assert_allclose(times / times.mean(), 1, atol=0.12)


def test_what_a_split_holds_where_it_is_padded():
  """Zeros, and pairs stay together."""
  data = numbered(3, 4)._replace(y=numbered(3, 4).x * 10)
  data = data._replace(x=data.x.at[3].set(jnp.nan))
  split = functools.partial(elbo.split, context_size=6, target_size=6)
  context, rest = jax.jit(split)(
    data,
    jax.random.PRNGKey(0),
    min_context=jnp.asarray(2),
    max_context=jnp.asarray(2),
  )
  assert len(drawn(context)) == 2 and len(drawn(rest)) == 1
  for points in (context, rest):
    np.testing.assert_array_equal(points.y, points.x * 10)
    assert np.all(points.x[np.asarray(points.mask) == 0] == 0)


def test_the_models_loss_is_the_bound():
  made, params = tests.make('graph', num_particles=PARTICLES)
  context, targets = tests.points(5, 7), tests.points(4, 6, seed=5)
  key = jax.random.PRNGKey(8)
  args = params, context, targets, key
  loss, _ = jax.jit(made.loss)(*args, kl_weight=0.3)
  net = surrogate.make_network(tests.section(), 4)
  expected, _ = bound(net, params, context, targets, key, kl_weight=0.3)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
