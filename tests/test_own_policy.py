"""Policies of a user's own: flax, squashed, categorical and recurrent ones.

Through adaptation, the outer objective and the trust-region step. Derivatives
are compared with finite differences, and the structured curvature with JAX's
own derivative of the whole KL.
"""

import functools
import pathlib
import runpy
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mbmpo_jax import tasks
from mbmpo_jax import types
from mbmpo_jax.objectives import maml
from mbmpo_jax.objectives import policy_gradient
from mbmpo_jax.optim import fisher
from mbmpo_jax.optim import meta_gradient
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy

_EXAMPLE = (
  pathlib.Path(__file__).parents[1] / 'experiments/examples/own_policy.py'
)
_OBS, _ACTIONS, _HORIZON, _ROLLOUTS = 2, 2, 5, 3
_TASKS = (1, 2)


@functools.cache
def _example() -> dict[str, Any]:
  return runpy.run_path(str(_EXAMPLE))


class _Squashed(nn.Module):
  """Mean and log-deviation by the state, before a tanh."""

  @nn.compact
  def __call__(self, obs):
    hidden = nn.tanh(nn.Dense(4)(obs))
    mean, log_std = jnp.split(nn.Dense(2 * _ACTIONS)(hidden), 2, -1)
    return distributions.TanhGaussian(mean, log_std - 0.5)


class _Choice(nn.Module):
  """Logits."""

  @nn.compact
  def __call__(self, obs):
    return distributions.Categorical(
      nn.Dense(_ACTIONS)(nn.tanh(nn.Dense(4)(obs)))
    )


def _recurrent() -> base.Policy:
  """A GRU, whose memory ends with the episode."""
  cell, head = nn.GRUCell(features=4), nn.Dense(2 * _ACTIONS)

  def start(params, key, context, num):
    del key, context
    return jnp.zeros((num, 4), params['head']['params']['bias'].dtype)

  def init(key):
    keys = jax.random.split(key)
    return {
      'cell': cell.init(keys[0], jnp.zeros((1, 4)), jnp.zeros((1, _OBS))),
      'head': head.init(keys[1], jnp.zeros((1, 4))),
    }

  def step(params, carry, obs):
    carry, hidden = cell.apply(params['cell'], carry, obs)
    mean, log_std = jnp.split(head.apply(params['head'], hidden), 2, -1)
    return carry, distributions.Gaussian(mean, log_std)

  def act(params, carry, obs, noise):
    carry, dist = step(params, carry, obs)
    return carry, base.take(dist, noise)

  def over(params, trajectory):
    def replay(carry, inputs):
      obs, ended = inputs
      carry, dist = step(params, carry, obs)
      return jnp.where(ended[:, None] > 0, 0.0, carry), dist

    num = trajectory.obs.shape[1]
    begin = start(params, None, (), num)
    return jax.lax.scan(replay, begin, (trajectory.obs, trajectory.ended))[1]

  return base.Policy(
    init=init,
    start=start,
    act=act,
    noise=functools.partial(distributions.normal_noise, action_size=_ACTIONS),
    distribution=lambda params, carry, obs: step(params, carry, obs)[1],
    over=over,
  )


def _policy(name: str) -> base.Policy:
  if name == 'example':
    return _example()['POLICY']
  if name == 'recurrent':
    return _recurrent()
  if name == 'squashed':
    return flax_policy.make(_Squashed(), _OBS, _ACTIONS)
  return flax_policy.make(
    _Choice(), _OBS, _ACTIONS, noise=distributions.gumbel_noise
  )


_each_policy = pytest.mark.parametrize(
  'name',
  [
    pytest.param('squashed', marks=pytest.mark.slow),
    'categorical',
    'recurrent',
  ],
)


def _theta(policy: base.Policy) -> types.Params:
  """Of the precision in force, biases included."""
  key = jax.random.PRNGKey(1)
  flat, unravel = jax.flatten_util.ravel_pytree(
    jax.tree.map(lambda x: x.astype(float), policy.init(key))
  )
  return unravel(flat + 0.1 * jax.random.normal(key, flat.shape, float))


def _rollouts(
  policy: base.Policy, params: types.Params, key: jax.Array
) -> tuple[types.Trajectory, jax.Array]:
  """Observations out of nowhere, the policy's own actions; some masked NaN."""
  keys = jax.random.split(key, 4)
  shape = (_HORIZON, _ROLLOUTS)
  obs = jax.random.normal(keys[0], (*shape, _OBS), float)
  mask = jnp.ones(shape, float).at[3:, 0].set(0.0)
  ended = jnp.zeros(shape, float).at[2, 0].set(1.0).at[1, 1].set(1.0)
  noise = policy.noise(keys[1], shape)
  carry = policy.start(params, keys[2], (), _ROLLOUTS)
  actions = []
  for t in range(_HORIZON):
    carry, action = policy.act(
      params, carry, obs[t], jax.tree.map(lambda x, t=t: x[t], noise)
    )
    carry = jax.tree.map(
      lambda x, t=t: jnp.where(ended[t][:, None] > 0, 0.0, x), carry
    )
    actions.append(action)
  action = jax.tree.map(lambda *x: jnp.stack(x), *actions)

  def hide(x):
    return jnp.where(mask.reshape(*shape, *[1] * (x.ndim - 2)) > 0, x, jnp.nan)

  trajectory = types.Trajectory(
    obs=hide(obs),
    action=hide(action.raw),
    env_action=hide(action.env),
    log_prob=hide(action.log_prob),
    reward=jnp.zeros(shape, float),
    next_obs=hide(obs),
    terminated=ended,
    mask=mask,
  )
  return trajectory, hide(jax.random.normal(keys[3], shape, float))


@functools.partial(jax.jit, static_argnums=0)
def _batch(
  policy: base.Policy, theta: types.Params, inner_lr: float
) -> maml.MetaBatch:
  keys = jax.random.split(jax.random.PRNGKey(3), (*_TASKS, 2))
  over = tasks.over_tasks
  pre, pre_advantages = over(lambda keys: _rollouts(policy, theta, keys[0]))(
    keys
  )
  adapted = over(
    functools.partial(maml.adapt, policy, theta, inner_lr=inner_lr)
  )(pre, pre_advantages)
  post, post_advantages = over(
    lambda params, keys: _rollouts(policy, params, keys[1])
  )(adapted, keys)
  weight = tasks.weights(jnp.arange(1.0, 3.0).reshape(_TASKS))
  return maml.MetaBatch(
    pre, pre_advantages, adapted, post, post_advantages, weight
  )


def _flat(tree: types.Params) -> np.ndarray:
  return np.asarray(jax.flatten_util.ravel_pytree(tree)[0])


def _directions(theta: types.Params, num: int = 4) -> list[types.Params]:
  flat, unravel = jax.flatten_util.ravel_pytree(theta)
  rng = np.random.default_rng(2)
  return [
    unravel(jnp.asarray(v / np.linalg.norm(v)))
    for v in rng.normal(size=(num, flat.size))
  ]


def _moved(theta: types.Params, v: types.Params, by: float) -> types.Params:
  return jax.tree.map(lambda x, v: x + by * v, theta, v)


def _distance(actual: np.ndarray, expected: np.ndarray) -> float:
  return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize('inner_lr', [0.1, 1.0])
def test_meta_gradient_of_the_example(x64, inner_lr):
  """Against central differences, of the values and of the kl's gradient."""
  policy, eps = _policy('example'), 1e-5
  theta = _theta(policy)
  batch = _batch(policy, theta, inner_lr)
  objective = jax.jit(maml.meta_objective(policy, batch, inner_lr=inner_lr))
  kl_gradient = jax.jit(jax.grad(lambda params: objective(params)[1]))

  @jax.jit
  def about(theta, v):
    at_theta = meta_gradient.differentiate(
      policy, theta, batch, inner_lr=inner_lr
    )
    _, info = trpo.trpo_step(
      theta, at_theta, max_kl=0.01, cg_iterations=5, damping=1e-3
    )
    return at_theta.gradient, at_theta.curvature(v), info

  for v in _directions(theta):
    gradient, curved, info = about(theta, v)
    ends = [_moved(theta, v, by) for by in (eps, -eps)]
    ahead, behind = (objective(end)[0] for end in ends)
    np.testing.assert_allclose(
      _flat(gradient) @ _flat(v), (ahead - behind) / (2 * eps), rtol=1e-6
    )
    ahead, behind = (_flat(kl_gradient(end)) for end in ends)
    assert _distance(_flat(curved), (ahead - behind) / (2 * eps)) < 1e-6
  assert info.accepted
  assert info.surrogate_gain > 0
  # Without the inner step's Jacobian it would be another gradient.
  plain = jax.grad(
    maml.meta_objective(policy, batch, inner_lr=0.0), has_aux=True
  )
  del plain
  alone = meta_gradient.differentiate(policy, theta, batch, inner_lr=0.0)
  assert _distance(_flat(alone.gradient), _flat(gradient)) > 1e-3


@pytest.mark.parametrize(
  'name',
  [
    'categorical',
    *(
      pytest.param(x, marks=pytest.mark.slow) for x in ('squashed', 'recurrent')
    ),
  ],
)
def test_meta_step_of_any_policy(x64, name):
  """Its derivatives against nested ones through the inner step."""
  policy, inner_lr = _policy(name), 0.5
  theta = _theta(policy)
  batch = _batch(policy, theta, inner_lr)
  settings: Any = {'inner_lr': inner_lr, 'entropy_coef': 0.1}
  v = _directions(theta, 1)[0]

  @jax.jit
  def evaluate(theta, v):
    objective = maml.meta_objective(policy, batch, **settings)
    about = meta_gradient.differentiate(policy, theta, batch, **settings)
    after, info = trpo.trpo_step(
      theta, about, max_kl=0.01, cg_iterations=5, damping=1e-3
    )
    structured = (
      about.surrogate,
      about.gradient,
      about.curvature(v),
      about.quadratic(v),
      about.objective(after),
    )
    value, gradient = jax.value_and_grad(lambda p: objective(p)[0])(theta)
    _, curved = jax.jvp(jax.grad(lambda p: objective(p)[1]), (theta,), (v,))
    return structured, (value, gradient, curved, objective(after)), info

  structured, (value, gradient, curved, after), info = evaluate(theta, v)
  np.testing.assert_allclose(structured[0], value, rtol=1e-12)
  assert _distance(_flat(structured[1]), _flat(gradient)) < 1e-11
  assert _distance(_flat(structured[2]), _flat(curved)) < 1e-9
  np.testing.assert_allclose(structured[3], _flat(v) @ _flat(curved), rtol=1e-9)
  np.testing.assert_allclose(structured[4], after, rtol=1e-10)
  assert np.linalg.norm(_flat(curved)) > 1e-6
  assert info.accepted
  assert 0 < info.kl <= 0.01
  np.testing.assert_allclose(after[0] - value, info.surrogate_gain, rtol=1e-6)
  assert info.surrogate_gain > 0


@_each_policy
def test_step_of_one_policy(x64, name):
  """`fisher`: a step without meta-learning, against nested derivatives."""
  policy = _policy(name)
  theta = _theta(policy)
  trajectory, advantages = _rollouts(policy, theta, jax.random.PRNGKey(5))

  @jax.jit
  def steps(theta):
    about = fisher.differentiate(
      policy, theta, trajectory, advantages, entropy_coef=0.1
    )
    objective = policy_gradient.surrogate_and_kl(
      policy, theta, trajectory, advantages, entropy_coef=0.1
    )
    settings: Any = {'max_kl': 0.01, 'cg_iterations': 5, 'damping': 1e-3}
    return (
      trpo.trpo_step(theta, about, **settings),
      trpo.trpo_step(theta, objective, **settings),
    )

  (ours, info), (plain, _) = steps(theta)
  assert info.accepted
  assert _distance(_flat(ours) - _flat(theta), _flat(plain) - _flat(theta)) < (
    1e-7
  )


@_each_policy
def test_over_replays_what_acted(x64, name):
  """Memory included: the stored log-probabilities come out again."""
  policy = _policy(name)
  theta = _theta(policy)
  trajectory, _ = _rollouts(policy, theta, jax.random.PRNGKey(6))
  dist = policy_gradient.over(policy, theta, trajectory)
  live = np.asarray(trajectory.mask) > 0
  np.testing.assert_allclose(
    np.asarray(dist.log_prob(jnp.nan_to_num(trajectory.action)))[live],
    np.asarray(trajectory.log_prob)[live],
    rtol=1e-10,
  )


def test_a_policy_without_density_is_named():
  policy = _policy('squashed')
  theta = _theta(policy)
  trajectory, advantages = _rollouts(policy, theta, jax.random.PRNGKey(0))
  policy = policy._replace(over=None)
  with pytest.raises(ValueError, match='no density'):
    maml.adapt(policy, theta, trajectory, advantages, inner_lr=0.1)


def test_a_network_of_another_size_is_named():
  with pytest.raises(ValueError, match=r'_Squashed.*\(1, 2\).*\(1, 3\)'):
    flax_policy.make(_Squashed(), _OBS, 3)


def test_the_example_improves():
  """Its TRPO steps; `test_meta_gradient_of_the_example` has the rest."""
  example = _example()
  theta = example['POLICY'].init(jax.random.PRNGKey(0))
  returns = []
  for index in range(12):
    theta, value = example['step'](theta, jax.random.PRNGKey(index))
    returns.append(value)
  assert np.mean(returns[-3:]) > 0.7 * np.mean(returns[:3])


@pytest.mark.slow
def test_the_example_learns_as_shown(capsys):
  runpy.run_path(str(_EXAMPLE), run_name='__main__')
  lines = capsys.readouterr().out.splitlines()
  returns = [float(x.split()[-1]) for x in lines if x.startswith('MB-MPO')]
  assert returns[-1] > 0.5 * returns[0]
