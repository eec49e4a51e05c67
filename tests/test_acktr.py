"""ACKTR: its steps against their equations, and that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.acktr import algorithm as acktr
from mbmpo_jax.algorithms.acktr import config as acktr_config
from mbmpo_jax.objectives import returns
from mbmpo_jax.optim import kfac
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import real
from tests import learning
from tests import test_on_policy


def settings(**overrides) -> acktr_config.Config:
  """Small networks on `point`."""
  values = {
    'env.name': 'point',
    'collect.num_envs': 20,
    'collect.steps_per_env': 30,
    'collect.episode_length': 30,
    'policy.hidden_sizes': (16,),
    'value.hidden_sizes': (16,),
  }
  return config_lib.replaced(acktr_config.Config(), values | overrides)


def learn(*, iterations: int) -> np.ndarray:
  """The returns of all iterations."""
  config = settings()
  algorithm = algorithms.make('acktr', envs.make('point'), config)

  def step(state, _):
    state, metrics = algorithm.update(state)
    return state, metrics['real/return']

  @jax.jit
  def run(key):
    state = algorithm.init(key, base.hyper(config))
    return jax.lax.scan(step, state, length=iterations)[1]

  return np.asarray(run(jax.random.PRNGKey(0)))


@pytest.mark.slow
def test_learns_the_point_and_flees_with_the_advantage_reversed(monkeypatch):
  """Random actions get -82, the optimum -14.3."""
  assert np.mean(learn(iterations=40)[-5:]) > -32
  standardize = returns.standardize
  monkeypatch.setattr(
    returns, 'standardize', lambda a, mask: -standardize(a, mask)
  )
  assert np.mean(learn(iterations=40)[-5:]) < -100


def test_an_iteration_moves_the_policy_as_its_factors_say():
  """The KL measured afresh is the one that the Kronecker factors foretell."""
  config = settings(
    **{
      'collect.num_envs': 100,
      'policy_step.max_length': 1e3,  # so that the trust region is the limit
      'policy_step.damping': 1e-4,
      'value_step.num_steps': 5,
    }
  )
  algorithm = algorithms.make('acktr', envs.make('point'), config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  after, metrics = jax.jit(algorithm.update)(state)
  np.testing.assert_allclose(
    metrics['policy/predicted_kl'], config.policy_step.max_kl, rtol=1e-3
  )
  ratio = metrics['policy/kl'] / metrics['policy/predicted_kl']
  assert 0.8 < ratio < 1.25
  assert metrics['nonfinite/updates'] == 0
  # One step of the policy and five of the value network, of fresh moments.
  assert after.optimizer.policy.steps == 1
  assert after.optimizer.value.steps == 5


def test_the_value_network_steps_towards_its_targets(monkeypatch):
  """Two steps on a masked batch, against the optimiser called by hand."""
  improve = []

  def keep(env, config, made, start, step, *args, **options):
    improve.append(step)
    return algorithm_of(env, config, made, start, step, *args, **options)

  algorithm_of = on_policy.algorithm
  monkeypatch.setattr(on_policy, 'algorithm', keep)
  config = settings(
    **{
      'value_step.num_steps': 2,
      'value_step.max_length': 1e3,  # so that the trust region is the limit
    }
  )
  env = envs.make('point')
  algorithm = algorithms.make('acktr', env, config)
  hyper = base.hyper(config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), hyper)
  trajectory, _ = jax.jit(
    functools.partial(
      real.rollout, env, algorithm.policy, num_envs=20, horizon=30
    )
  )(algorithm.policy_params(state), jax.random.PRNGKey(1))
  rng = np.random.default_rng(0)
  mask, targets, advantages = (
    jnp.asarray(x, jnp.float32)
    for x in (
      rng.uniform(size=(30, 20)) < 0.5,
      5 * rng.normal(size=(30, 20)),
      rng.normal(size=(30, 20)),
    )
  )
  batch = on_policy.Batch(trajectory._replace(mask=mask), advantages, targets)
  found = jax.jit(improve[0])(state, batch, jax.random.PRNGKey(2))

  made = on_policy.parts(env, config, None)
  live = np.asarray(mask) > 0
  obs, wanted = trajectory.obs[live], targets[live]
  value, optimizer_state = state.value, state.optimizer.value

  def loss(params):
    return jnp.mean(jnp.square(made.value(params, obs) - wanted)) / 2

  @jax.jit
  def step(value, optimizer_state):
    error, gradient = jax.value_and_grad(loss)(value)
    changes, optimizer_state = acktr.value_optimizer(hyper, 2 * error).update(
      gradient,
      optimizer_state,
      value,
      samples=kfac.record(value, obs, jnp.sum),
    )
    return optax.apply_updates(value, changes), optimizer_state

  for _ in range(2):
    value, optimizer_state = step(value, optimizer_state)
  moved = jax.tree.map(lambda x, y: x - y, found.value, state.value)
  expected = jax.tree.map(lambda x, y: x - y, value, state.value)
  size = max(float(jnp.max(abs(x))) for x in jax.tree.leaves(expected))
  assert size > 1e-3
  for ours, theirs in zip(
    *map(jax.tree.leaves, (moved, expected)), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * size)


def test_a_step_that_is_not_finite_is_not_taken():
  optimizer = kfac.kfac(1.0, max_kl=1.0, damping=0.1)
  params = {'w': jnp.ones((2, 1)), 'b': jnp.ones(1)}
  state = optimizer.init(params)
  samples = kfac.record(params, jnp.ones((3, 2)), jnp.sum)

  @jax.jit
  def step(slope):
    gradient = jax.tree.map(lambda x: slope * x, params)
    return acktr._step(optimizer, params, state, gradient, samples)

  *same, taken = step(jnp.nan)
  assert not taken
  jax.tree.map(np.testing.assert_array_equal, tuple(same), (params, state))
  *other, taken = step(1.0)
  assert taken
  assert other[0]['b'] < 1
  assert other[1].steps == 1


def test_the_value_networks_trust_region_has_the_unit_of_its_error(x64):
  """With rewards a hundred times as large, the step is as long."""
  hyper = base.hyper(settings())
  params = {'w': jnp.array([[0.3], [-0.2]]), 'b': jnp.zeros(1)}
  obs = jax.random.normal(jax.random.PRNGKey(0), (9, 2))

  def step(scale):
    error = scale * ((obs @ params['w'])[:, 0] - 3 * jnp.sin(obs[:, 0]))
    gradient = {
      'w': jnp.mean(obs * error[:, None], 0)[:, None],
      'b': jnp.mean(error)[None],
    }
    optimizer = acktr.value_optimizer(hyper, jnp.mean(error**2))
    samples = kfac.record(params, obs, jnp.sum)
    return optimizer.update(gradient, optimizer.init(params), samples=samples)

  (small, one), (large, hundred) = map(jax.jit(step), (1.0, 100.0))
  assert one.length < hyper['value_step.max_length']
  np.testing.assert_allclose(hundred.length, one.length, rtol=1e-10)
  np.testing.assert_allclose(large['w'], 100 * small['w'], rtol=1e-10)


@pytest.mark.slow
def test_learns_a_world_of_choices():
  """A softmax, on another network; at random it gets 5 of 10."""
  config = settings(
    **{
      'collect.steps_per_env': 10,
      'collect.episode_length': 10,
      'advantage.discount': 0.0,
    }
  )
  algorithm = algorithms.make('acktr', test_on_policy.Switch(), config)
  update = jax.jit(algorithm.update)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  for _ in range(30):
    state, metrics = update(state)
  assert metrics['real/return'] > 8


def test_another_policy_is_refused_in_one_line():
  env = envs.make('point')
  policy = gaussian.make(2, 2, config_lib.GaussianPolicy())
  with pytest.raises(config_lib.ConfigError, match='policy: must be None'):
    algorithms.make('acktr', env, settings(), policy=policy)


@pytest.mark.slow
def test_the_point_preset_comes_within_a_tenth_of_the_optimum():
  assert learning.share_of_optimum_on_point('acktr/point') >= 0.9
