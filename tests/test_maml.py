"""Adaptation and the outer objective, against the reference.

At the paper's alpha of 1e-3 the adaptation is too small for a bug in its
derivative to show, so alpha is 0.1 and 1 here; rollouts, tasks and weights are
unequal, and the tests of derivatives first make sure that the plain gradient,
which forgets that theta_i' depends on theta, would not pass them.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from mbmpo_jax import config
from mbmpo_jax import masking
from mbmpo_jax import tasks
from mbmpo_jax import types
from mbmpo_jax.objectives import maml
from mbmpo_jax.optim import meta_gradient
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import base
from mbmpo_jax.policies import gaussian

_KINDS = ('log_likelihood', 'likelihood_ratio')
# Each objective and each rate once, and all pairs by `make test-all`.
_PROBLEMS = (
  (0.1, 'log_likelihood'),
  (1.0, 'likelihood_ratio'),
  pytest.param(1.0, 'log_likelihood', marks=pytest.mark.slow),
  pytest.param(0.1, 'likelihood_ratio', marks=pytest.mark.slow),
)
_each_problem = pytest.mark.parametrize(('inner_lr', 'kind'), _PROBLEMS)

# The paper's objective; the other by `make test-all`.
_paper_first = pytest.mark.parametrize(
  'kind',
  ['log_likelihood', pytest.param('likelihood_ratio', marks=pytest.mark.slow)],
)


def _batch(problem: reference.Problem) -> maml.MetaBatch:
  """In the precision in force; NaN in fields that are none of maml's."""

  def trajectory(arrays: dict[str, np.ndarray]) -> types.Trajectory:
    nothing = jnp.full(arrays['mask'].shape, jnp.nan, dtype=float)
    fields: dict[str, Any] = dict.fromkeys(types.Trajectory._fields, nothing)
    fields |= {'extras': (), 'truncated': None}
    for name in ('obs', 'action', 'log_prob', 'mask'):
      fields[name] = jnp.asarray(arrays[name])
    return types.Trajectory(**fields)

  def stack(*leaves: np.ndarray) -> jax.Array:
    return jnp.reshape(
      jnp.stack(leaves), problem.weights.shape + leaves[0].shape
    )

  return maml.MetaBatch(
    pre=trajectory(problem.pre),
    pre_advantages=jnp.asarray(problem.pre['advantages']),
    adapted=jax.tree.map(stack, *problem.old),
    post=trajectory(problem.post),
    post_advantages=jnp.asarray(problem.post['advantages']),
    weight=tasks.weights(jnp.asarray(problem.weights)),
  )


def _unrows(matrix: np.ndarray, like: reference.Params) -> types.Params:
  """The rows as parameters, stacked along a new first axis."""
  trees = [reference.unflatten(row, like) for row in matrix]
  return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *trees)


def _rows(tree: reference.Params) -> np.ndarray:
  """Inverse of `_unrows`."""
  leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
  rows = [
    jax.tree.unflatten(structure, row) for row in zip(*leaves, strict=True)
  ]
  return np.stack([reference.flatten(row) for row in rows])


# Compiling is all these tests would wait for.
_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
  },
)


def _policy(*, learn_std: bool = True) -> base.Policy:
  """That of the reference's parameters; the sizes are those of `init` alone."""
  return gaussian.make(3, 2, config.GaussianPolicy(learn_std=learn_std))


def _adaptations(
  policy: base.Policy,
  params: types.Params,
  pre: types.Trajectory,
  advantages: jax.Array,
  inner_lr: float,
  objective: str,
) -> tuple[types.Params, meta_gradient.Adaptation]:
  """Of every task, [K, P, ...]: theta_i' and what is kept of it."""
  adapt = functools.partial(
    meta_gradient.adapt, inner_lr=inner_lr, objective=objective
  )
  return tasks.map_tasks(
    functools.partial(adapt, policy, params), pre, advantages
  )


@functools.partial(_jit, static_argnames=('names', 'objective', 'learn_std'))
def _evaluate(
  params: types.Params,
  batch: maml.MetaBatch,
  inner_lr: float,
  points: types.Params,
  directions: types.Params,
  entropy_coef: float,
  *,
  names: tuple[str, ...],
  objective: str,
  learn_std: bool,
) -> dict[str, Any]:
  """What maml has to say about `params`, and its values at points; by name."""
  settings: Any = {
    'inner_lr': inner_lr,
    'objective': objective,
    'entropy_coef': entropy_coef,
  }
  policy = _policy(learn_std=learn_std)
  objective_fn = maml.meta_objective(policy, batch, **settings)
  _, adaptations = _adaptations(
    policy, params, batch.pre, batch.pre_advantages, inner_lr, objective
  )
  at_theta = meta_gradient.differentiate(
    policy, params, batch, **settings, adaptations=adaptations
  )

  def surrogate(params):
    return objective_fn(params)[0]

  def kl(params):
    return objective_fn(params)[1]

  def hessian_product(v):
    return jax.jvp(jax.grad(kl), (params,), (v,))[1]

  every = {
    'surrogate': (jax.value_and_grad(surrogate), points),
    'kl': (jax.value_and_grad(kl), points),
    'at_theta': (lambda _: (at_theta.surrogate, at_theta.gradient), points),
    'nearby': (at_theta.objective, points),
    'curvature': (at_theta.curvature, directions),
    'quadratic': (at_theta.quadratic, directions),
    'hessian': (hessian_product, directions),
  }
  return {name: jax.vmap(every[name][0])(every[name][1]) for name in names}


def _run(
  problem: reference.Problem,
  inner_lr: float,
  kind: str,
  *,
  batch: maml.MetaBatch | None = None,
  names: tuple[str, ...] = (
    'surrogate',
    'kl',
    'at_theta',
    'nearby',
    'curvature',
    'quadratic',
  ),
  entropy_coef: float = 0.0,
  learn_std: bool = True,
) -> dict[str, Any]:
  """`_evaluate` at theta and at a point away from it; NumPy, flat."""
  theta = reference.flatten(problem.params)
  points = np.stack([theta, theta + _shift(problem.params)])
  results = _evaluate(
    jax.tree.map(jnp.asarray, problem.params),
    _batch(problem) if batch is None else batch,
    inner_lr,
    _unrows(points, problem.params),
    _unrows(np.eye(len(theta)), problem.params),
    entropy_coef,
    names=names,
    objective=kind,
    learn_std=learn_std,
  )
  flat = {}
  for name, result in results.items():
    if name in ('surrogate', 'kl', 'at_theta'):
      pairs = zip(result[0], _rows(result[1]), strict=True)
      flat[name], flat['moved_' + name] = pairs
    elif name == 'nearby':
      flat[name] = np.stack(result)  # [surrogate and kl, points]
    elif name == 'quadratic':
      flat[name] = np.asarray(result)
    else:
      flat[name] = _rows(result)
  return flat


def _adapt(
  problem: reference.Problem,
  pre: types.Trajectory,
  inner_lr: float,
  kind: str,
  *,
  learn_std: bool = True,
) -> types.Params:
  """The parameters of every task, [K, P, ...]."""
  one = functools.partial(
    maml.adapt, _policy(learn_std=learn_std), objective=kind
  )

  @_jit
  def adapt(params, pre, advantages, inner_lr):
    every = tasks.over_tasks(
      functools.partial(one, inner_lr=inner_lr), (None, 0, 0)
    )
    return every(params, pre, advantages)

  params = jax.tree.map(jnp.asarray, problem.params)
  return adapt(params, pre, jnp.asarray(problem.pre['advantages']), inner_lr)


def _shift(params: reference.Params) -> np.ndarray:
  size = len(reference.flatten(params))
  return 0.1 * np.random.default_rng(4).normal(size=size)


def _functions(problem: reference.Problem, inner_lr: float, kind: str):
  """The reference's surrogate and KL of flat parameters."""

  def surrogate(vector):
    params = reference.unflatten(vector, problem.params)
    return reference.surrogate(params, problem.tasks, inner_lr, kind)

  def kl(vector):
    params = reference.unflatten(vector, problem.params)
    return reference.mean_kl(params, problem.old, problem.tasks, inner_lr, kind)

  return surrogate, kl


def _plain(problem: reference.Problem) -> tuple[np.ndarray, np.ndarray]:
  """Gradient and curvature with the adaptation's Jacobian left out, J = I."""
  gradient, curvature = 0.0, 0.0
  for task, old in zip(problem.tasks, problem.old, strict=True):
    # With alpha 0 and the adapted parameters in theta's place.
    alone = problem._replace(params=old, old=[old], tasks=[task])
    share = task.weight / np.sum(problem.weights)
    if share:
      surrogate, kl = _functions(alone, 0.0, 'log_likelihood')
      vector = reference.flatten(old)
      gradient += share * reference.jacobian(surrogate, vector)
      curvature += share * reference.hessian(kl, vector)
  return gradient, curvature


def _distance(actual: np.ndarray, expected: np.ndarray) -> float:
  """Relative, of whole vectors or matrices."""
  return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@_each_problem
def test_reference_agrees_with_itself(inner_lr, kind):
  """Gradients by hand, by complex steps and by differences."""
  problem = reference.make_problem(inner_lr, kind)
  vector = reference.flatten(problem.params) + _shift(problem.params)
  params = reference.unflatten(vector, problem.params)

  def inner(vector):
    params = reference.unflatten(vector, problem.params)
    return reference.inner_objective(params, problem.tasks[0].pre, kind)

  by_hand = reference.inner_gradient(params, problem.tasks[0].pre, kind)
  exact = reference.jacobian(inner, vector)
  assert _distance(reference.flatten(by_hand), exact) < 1e-13
  assert _distance(reference.finite_difference(inner, vector), exact) < 1e-8

  for fn in _functions(problem, inner_lr, kind):
    exact = reference.jacobian(fn, vector)
    for step in (1e-5, 3e-6):
      differences = reference.finite_difference(fn, vector, step)
      assert _distance(differences, exact) < 1e-7


@_each_problem
def test_adapt(x64, inner_lr, kind):
  problem = reference.make_problem(inner_lr, kind)
  batch = _batch(problem)
  adapted = _adapt(problem, batch.pre, inner_lr, kind)
  actual, expected = jax.tree.leaves(adapted), jax.tree.leaves(batch.adapted)
  for ours, theirs in zip(actual, expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
  kept, _ = _jit(_adaptations, static_argnums=(0, 5))(
    _policy(),
    jax.tree.map(jnp.asarray, problem.params),
    batch.pre,
    batch.pre_advantages,
    inner_lr,
    kind,
  )
  for ours, theirs in zip(jax.tree.leaves(kept), expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
  # And they went somewhere, every task its own way.
  ends = [reference.flatten(x) for x in [problem.params, *problem.old]]
  for one, other in itertools.combinations(ends, 2):
    assert np.linalg.norm(one - other) > 0.1 * inner_lr


@_each_problem
def test_values_and_gradients(x64, inner_lr, kind):
  """Of surrogate and KL, at theta and away from it."""
  problem = reference.make_problem(inner_lr, kind)
  results = _run(problem, inner_lr, kind)
  surrogate, kl = _functions(problem, inner_lr, kind)
  theta = reference.flatten(problem.params)
  moved = theta + _shift(problem.params)

  for name, fn, vector in (
    ('surrogate', surrogate, theta),
    ('at_theta', surrogate, theta),
    ('moved_surrogate', surrogate, moved),
    ('moved_kl', kl, moved),
  ):
    value, gradient = results[name]
    np.testing.assert_allclose(value, fn(vector), rtol=1e-11, err_msg=name)
    exact = reference.jacobian(fn, vector)
    assert _distance(gradient, exact) < 1e-11, name
    differences = reference.finite_difference(fn, vector)
    assert _distance(gradient, differences) < 1e-7, name

  np.testing.assert_allclose(
    results['nearby'],
    [[fn(theta), fn(moved)] for fn in (surrogate, kl)],
    rtol=1e-11,
    atol=1e-14,
  )
  assert abs(results['kl'][0]) < 1e-14
  assert np.max(np.abs(results['kl'][1])) < 1e-13


@_each_problem
def test_curvature_is_the_hessian_of_the_kl(x64, inner_lr, kind):
  results = _run(reference.make_problem(inner_lr, kind), inner_lr, kind)
  expected = reference.kl_hessian(inner_lr, kind)
  assert _distance(results['curvature'], expected) < 1e-7
  assert _distance(results['curvature'], results['curvature'].T) < 1e-12
  diagonal = np.diag(results['curvature'])
  assert _distance(results['quadratic'], diagonal) < 1e-12


@_each_problem
def test_leaving_the_jacobian_out_would_show(inner_lr, kind):
  """The data of this file is such that J = I is far outside tolerance."""
  problem = reference.make_problem(inner_lr, kind)
  surrogate, _ = _functions(problem, inner_lr, kind)
  gradient, curvature = _plain(problem)
  exact = reference.jacobian(surrogate, reference.flatten(problem.params))
  assert _distance(gradient, exact) > 0.05
  assert _distance(curvature, reference.kl_hessian(inner_lr, kind)) > 0.05


@_paper_first
def test_without_adaptation(x64, kind):
  """Alpha 0 is policy search on all tasks at once."""
  problem = reference.make_problem(0.0, kind)
  results = _run(problem, 0.0, kind)
  gradient, curvature = _plain(problem)
  assert _distance(results['surrogate'][1], gradient) < 1e-11
  assert _distance(results['at_theta'][1], gradient) < 1e-11
  assert _distance(results['curvature'], curvature) < 1e-7


@pytest.mark.slow
def test_single_precision():
  kind = 'likelihood_ratio'
  problem = reference.make_problem(1.0, kind)
  results = _run(problem, 1.0, kind, names=('at_theta', 'curvature'))
  theta = reference.flatten(problem.params)
  exact = reference.jacobian(_functions(problem, 1.0, kind)[0], theta)
  assert _distance(results['at_theta'][1], exact) < 1e-5
  assert _distance(results['curvature'], reference.kl_hessian(1.0, kind)) < 1e-5


def test_fixed_std(x64):
  """The inner step leaves it alone, and the curvature knows."""
  kind = 'log_likelihood'
  problem = reference.make_problem(1.0, kind)
  # The old policies must be those that this kind of policy adapts to.
  batch = _batch(problem)
  adapted = _adapt(problem, batch.pre, 1.0, kind, learn_std=False)
  for log_std in np.reshape(adapted['log_std'], (-1, 2)):
    np.testing.assert_array_equal(log_std, problem.params['log_std'])
  results = _run(
    problem,
    1.0,
    kind,
    batch=batch._replace(adapted=adapted),
    names=('curvature', 'quadratic', 'hessian'),
    learn_std=False,
  )
  curvature = results['curvature']
  assert _distance(curvature, results['hessian']) < 1e-12
  assert _distance(results['quadratic'], np.diag(curvature)) < 1e-12
  assert np.linalg.norm(curvature) > 0.1
  assert np.all(curvature[-2:] == 0)


def test_entropy_bonus(x64):
  problem = reference.make_problem(1.0, 'log_likelihood')
  results = _run(problem, 1.0, 'log_likelihood', entropy_coef=0.3)
  surrogate, _ = _functions(problem, 1.0, 'log_likelihood')

  def objective(vector):
    params = reference.unflatten(vector, problem.params)
    entropy = reference.mean_entropy(
      params, problem.tasks, 1.0, 'log_likelihood'
    )
    return surrogate(vector) + 0.3 * entropy

  theta = reference.flatten(problem.params)
  exact = reference.jacobian(objective, theta)
  for name in ('surrogate', 'at_theta'):
    value, gradient = results[name]
    np.testing.assert_allclose(value, objective(theta), rtol=1e-11)
    assert _distance(gradient, exact) < 1e-11
    assert _distance(gradient, reference.jacobian(surrogate, theta)) > 0.1


def test_plasticity(x64):
  problem = reference.make_problem(1.0, 'log_likelihood')
  moves = [
    np.mean(reference.kl(problem.params, old, task.pre.obs))
    for task, old in zip(problem.tasks, problem.old, strict=True)
  ]
  params, batch = jax.tree.map(jnp.asarray, problem.params), _batch(problem)

  @_jit
  def plasticity(params, pre, advantages):
    adapted, adaptations = _adaptations(
      _policy(), params, pre, advantages, 1.0, 'log_likelihood'
    )
    one = functools.partial(meta_gradient.plasticity, _policy())
    return tasks.map_tasks(one, adapted, adaptations, pre)

  actual = plasticity(params, batch.pre, batch.pre_advantages)
  np.testing.assert_allclose(np.ravel(actual), moves, rtol=1e-11)


def _rates(
  problem: reference.Problem, inner_lr: float, kind: str, max_kl: float
) -> np.ndarray:
  """Every task's step size within a KL: `inner_rate` in float64 NumPy."""
  theta, scale = problem.params, reference.log_std(problem.params)
  rates = []
  for task in problem.tasks:
    gradient = reference.inner_gradient(theta, task.pre, kind)
    # The distribution's derivative along the gradient, by an imaginary step.
    moved = reference.flatten(theta) + 1e-30j * reference.flatten(gradient)
    there = reference.unflatten(moved, theta)
    d_mean = np.imag(reference.mean(there, task.pre.obs)) / 1e-30
    d_scale = np.imag(reference.log_std(there)) / 1e-30
    metric = np.sum(d_mean**2 / np.exp(2 * scale) + 2 * d_scale**2, -1)
    kl = inner_lr**2 * np.mean(metric) / 2
    rates.append(inner_lr * min(1.0, np.sqrt(max_kl / kl)))
  return np.array(rates)


@_paper_first
def test_bounded_adaptation(x64, kind):
  """Its rates, and the outer objective's derivatives with these held."""
  inner_lr = 1.0
  problem = reference.make_problem(inner_lr, kind)
  unbounded = [
    np.mean(reference.kl(problem.params, old, task.pre.obs))
    for task, old in zip(problem.tasks, problem.old, strict=True)
  ]
  max_kl = float(np.median(unbounded))
  rates = _rates(problem, inner_lr, kind, max_kl)
  assert 0 < np.sum(rates == inner_lr) < len(rates)
  old = [
    reference.adapt(problem.params, task.pre, rate, kind)
    for task, rate in zip(problem.tasks, rates, strict=True)
  ]
  problem = problem._replace(old=old)

  def outer(vector, value):
    params = reference.unflatten(vector, problem.params)
    total = 0.0
    for task, rate, before in zip(problem.tasks, rates, old, strict=True):
      share = task.weight / np.sum(problem.weights)
      total += share * value(
        reference.adapt(params, task.pre, rate, kind), task, before
      )
    return total

  def surrogate(vector):
    return outer(
      vector,
      lambda adapted, task, _: np.mean(
        reference._ratio(adapted, task.post) * task.post.advantages
      ),
    )

  def kl(vector):
    return outer(
      vector,
      lambda adapted, task, before: np.mean(
        reference.kl(before, adapted, task.post.obs)
      ),
    )

  theta = reference.flatten(problem.params)
  moved = theta + _shift(problem.params)
  batch = _batch(problem)

  @_jit
  def evaluate(params, batch, points, directions):
    settings: Any = dict(inner_lr=inner_lr, max_kl=max_kl, objective=kind)
    adapted, adaptations = tasks.map_tasks(
      functools.partial(meta_gradient.adapt, _policy(), params, **settings),
      batch.pre,
      batch.pre_advantages,
    )
    about = meta_gradient.differentiate(
      _policy(), params, batch, **settings, adaptations=adaptations
    )
    return (
      adaptations.rate,
      adapted,
      about.surrogate,
      about.gradient,
      jax.vmap(about.curvature)(directions),
      jax.vmap(about.objective)(points),
    )

  rate, adapted, value, gradient, curvature, nearby = evaluate(
    jax.tree.map(jnp.asarray, problem.params),
    batch,
    _unrows(np.stack([theta, moved]), problem.params),
    _unrows(np.eye(len(theta)), problem.params),
  )
  np.testing.assert_allclose(np.ravel(rate), rates, rtol=1e-10)
  for ours, theirs in zip(
    jax.tree.leaves(adapted), jax.tree.leaves(batch.adapted), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
  np.testing.assert_allclose(value, surrogate(theta), rtol=1e-10)
  exact = reference.jacobian(surrogate, theta)
  one = jax.tree.map(lambda x: x[None], gradient)
  assert _distance(_rows(one)[0], exact) < 1e-10
  assert _distance(_rows(curvature), reference.hessian(kl, theta)) < 1e-6
  np.testing.assert_allclose(
    nearby,
    [[fn(theta), fn(moved)] for fn in (surrogate, kl)],
    rtol=1e-9,
    atol=1e-14,
  )


def test_bounded_adaptation_stays_within(x64):
  """The KL that is measured, where the bound is small enough for it to be."""
  problem = reference.make_problem(1.0, 'log_likelihood')
  for task, rate in zip(
    problem.tasks, _rates(problem, 1.0, 'log_likelihood', 1e-6), strict=True
  ):
    adapted = reference.adapt(problem.params, task.pre, rate, 'log_likelihood')
    measured = np.mean(reference.kl(problem.params, adapted, task.pre.obs))
    np.testing.assert_allclose(measured, 1e-6, rtol=0.02)


def test_unknown_objective_is_named():
  problem = reference.make_problem(0.1, 'log_likelihood')
  with pytest.raises(ValueError, match=r"'reward'.*likelihood_ratio"):
    _run(problem, 0.1, 'reward')


# What is masked, rejected or of no weight.


def _assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
  """Same to the last bit but for the order of sums."""
  for name, value in expected.items():
    for ours, theirs in zip(actual[name], value, strict=True):
      np.testing.assert_allclose(
        ours, theirs, rtol=1e-10, atol=1e-12, err_msg=name
      )


@pytest.mark.parametrize('kind', _KINDS)
def test_masked_entries_change_nothing(x64, kind):
  clean, dirty = (
    _run(reference.make_problem(1.0, kind, dead=dead), 1.0, kind)
    for dead in (0.0, np.nan)
  )
  _assert_same(dirty, clean)


def _poison(tree: Any, task: tuple[int, int], value: float) -> Any:
  """`value` at the first step, which is alive, of every leaf of the task."""

  def leaf(x: jax.Array) -> jax.Array:
    return x.at[task + (0,) * (x.ndim > 2)].set(value)

  return jax.tree.map(leaf, tree)


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('kind', _KINDS)
def test_weightless_task_changes_nothing(x64, kind, value):
  """However wild what it holds."""
  problem = reference.make_problem(1.0, kind)
  task = (1, 1)
  assert problem.weights[task] == 0
  batch = _batch(problem)
  wild = maml.MetaBatch(
    pre=_poison(batch.pre, task, value)._replace(mask=batch.pre.mask),
    pre_advantages=_poison(batch.pre_advantages, task, value),
    adapted=jax.tree.map(lambda x: x.at[task].set(value), batch.adapted),
    post=_poison(batch.post, task, value)._replace(mask=batch.post.mask),
    post_advantages=_poison(batch.post_advantages, task, value),
    weight=batch.weight,
  )
  expected = _run(problem, 1.0, kind)
  _assert_same(_run(problem, 1.0, kind, batch=wild), expected)


@pytest.mark.parametrize('kind', _KINDS)
def test_rejected_task_changes_nothing(x64, kind):
  """Masked whole by `reject_non_finite`, it adapts to nothing."""
  problem = reference.make_problem(1.0, kind)
  task = (1, 1)
  batch = _batch(problem)
  finite = jax.tree.map(jnp.nan_to_num, batch)
  reject = tasks.over_tasks(masking.reject_non_finite)
  pre, good_pre = reject(
    finite.pre._replace(action=_poison(finite.pre.action, task, jnp.inf))
  )
  post, good_post = reject(
    finite.post._replace(obs=_poison(finite.post.obs, task, jnp.nan))
  )
  expected = np.ones(problem.weights.shape, bool)
  expected[task] = False
  np.testing.assert_array_equal(good_pre, expected)
  np.testing.assert_array_equal(good_post, expected)

  adapted = _adapt(problem, pre, 1.0, kind)
  leaves = jax.tree.leaves(adapted), jax.tree.leaves(problem.params)
  for leaf, start in zip(*leaves, strict=True):
    np.testing.assert_array_equal(leaf[task], start)
  rejected = batch._replace(pre=pre, post=post, adapted=adapted)
  _assert_same(
    _run(problem, 1.0, kind, batch=rejected), _run(problem, 1.0, kind)
  )


# The whole outer step.


@functools.partial(_jit, static_argnames=('objective', 'cg_iterations'))
def _outer_step(
  params: types.Params,
  batch: maml.MetaBatch,
  inner_lr: float,
  max_kl: float,
  *,
  objective: str,
  cg_iterations: int,
) -> tuple[types.Params, trpo.TrpoInfo]:
  settings: Any = {'inner_lr': inner_lr, 'objective': objective}
  at_theta = meta_gradient.differentiate(_policy(), params, batch, **settings)
  return trpo.trpo_step(
    params,
    at_theta,
    max_kl=max_kl,
    cg_iterations=cg_iterations,
    damping=1e-5,
  )


@pytest.mark.parametrize(
  ('inner_lr', 'kind', 'precision', 'cg_iterations'),
  [
    (0.1, 'log_likelihood', 'float64', 10),
    (1.0, 'likelihood_ratio', 'float64', 10),
    (0.1, 'log_likelihood', 'float32', 10),
    pytest.param(1.0, 'log_likelihood', 'float64', 10, marks=pytest.mark.slow),
    pytest.param(
      0.1, 'likelihood_ratio', 'float64', 10, marks=pytest.mark.slow
    ),
  ],
)
def test_outer_step(inner_lr, kind, precision, cg_iterations):
  problem = reference.make_problem(inner_lr, kind)
  theta = reference.flatten(problem.params)
  surrogate, kl = _functions(problem, inner_lr, kind)
  expected = reference.trpo_step(
    theta,
    surrogate,
    kl,
    reference.kl_hessian(inner_lr, kind),
    max_kl=0.01,
    cg_iterations=cg_iterations,
  )
  assert expected.accepted
  with jax.enable_x64(precision == 'float64'):
    params, info = _outer_step(
      jax.tree.map(jnp.asarray, problem.params),
      _batch(problem),
      inner_lr,
      0.01,
      objective=kind,
      cg_iterations=cg_iterations,
    )
  assert info.accepted
  assert info.backtracks == expected.backtracks
  step = reference.flatten(params) - theta
  allowed = 1e-4 if precision == 'float64' else 1e-3
  assert _distance(step, expected.theta - theta) < allowed
  np.testing.assert_allclose(info.kl, kl(expected.theta), rtol=allowed)
  np.testing.assert_allclose(
    info.surrogate_gain,
    surrogate(expected.theta) - surrogate(theta),
    rtol=allowed,
  )


@pytest.mark.parametrize('case', ['no weight', 'all masked'])
def test_without_tasks_theta_stays(case):
  problem = reference.make_problem(1.0, 'log_likelihood')
  batch = _batch(problem)
  if case == 'no weight':
    batch = batch._replace(weight=jnp.zeros_like(batch.weight))
  else:
    batch = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), batch)._replace(
      adapted=batch.adapted, weight=batch.weight
    )
    dead = jnp.zeros_like(batch.pre.mask)
    batch = batch._replace(
      pre=batch.pre._replace(mask=dead), post=batch.post._replace(mask=dead)
    )
  params = jax.tree.map(jnp.asarray, problem.params)
  stayed, info = _outer_step(
    params, batch, 1.0, 0.01, objective='log_likelihood', cg_iterations=5
  )
  assert not info.accepted
  assert jax.tree.all(jax.tree.map(jnp.array_equal, stayed, params))
