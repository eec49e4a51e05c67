"""Inputs that are normalised where they are read, in policies and updates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as shared
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.m3po import batches as m3po_batches
from mbmpo_jax.algorithms.pearl import batches as pearl_batches
from mbmpo_jax.envs import point
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import history as policy_lib
from mbmpo_jax.policies import normalized
from mbmpo_jax.policies import normalized_inputs
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import real
from tests import tiny

LENGTH = 3
RNG = np.random.default_rng(0)
MEAN, STD = np.array([3.0, -50.0, 0.2]), np.array([2.0, 0.1, 7.0])


def moments() -> normalized_inputs.InputMoments:
  """Of 10 transitions, the last column their reward."""
  squares = 10 * STD**2
  return normalized_inputs.InputMoments(
    normalized.Moments(
      jnp.asarray(10.0), jnp.asarray(MEAN[:2]), jnp.asarray(squares[:2])
    ),
    normalized.Moments(
      jnp.asarray(10.0), jnp.asarray(MEAN[2:]), jnp.asarray(squares[2:])
    ),
  )


def window(num: int = 4) -> history.Window:
  """Full histories of N episodes, far from zero."""
  rows = MEAN + STD * RNG.uniform(-2, 2, (num, LENGTH, 3))
  return history.Window(
    jnp.asarray(rows[..., :2]),
    jnp.asarray(RNG.uniform(-1, 1, (num, LENGTH, 2))),
    jnp.asarray(rows[..., 2]),
    jnp.ones((num, LENGTH)),
  )


def test_what_is_read_has_mean_0_and_deviation_1(x64):
  seen = history.Seen(jnp.asarray(MEAN[None, :2] + 1), window(1))
  found = normalized_inputs.normalize(moments(), seen)
  np.testing.assert_allclose(found.obs, 1 / STD[None, :2])
  raw = jax.tree.map(np.asarray, seen.window)
  np.testing.assert_allclose(
    found.window.obs, (raw.obs - MEAN[:2]) / STD[:2], rtol=1e-9
  )
  np.testing.assert_allclose(
    found.window.reward, (raw.reward - MEAN[2]) / STD[2], rtol=1e-9
  )
  np.testing.assert_array_equal(found.window.action, raw.action)
  np.testing.assert_array_equal(found.window.mask, raw.mask)
  short = seen.window._replace(mask=jnp.asarray([[0.0, 1.0, 1.0]]))
  found = normalized_inputs.normalize_memory(moments(), short)
  assert not found.obs[:, 0].any() and not found.reward[:, 0].any()
  assert found.obs[:, 1:].all() and found.reward[:, 1:].all()


def test_the_policy_acts_on_normalised_steps_and_remembers_them_raw(x64):
  inner = policy_lib.make(
    policy_lib.Gaussian(2, (8,), units=4), 2, 2, length=LENGTH
  )
  policy = normalized_inputs.make(inner, 2)
  learned = inner.init(jax.random.PRNGKey(0))
  params = normalized.Params(learned, moments())
  carry = window()
  obs = jnp.asarray(MEAN[:2] + STD[:2] * RNG.normal(size=(4, 2)))
  noise = policy.noise(jax.random.PRNGKey(1), (4,))
  kept, action = policy.act(params, carry, obs, noise)
  assert kept is carry
  raw = jax.tree.map(np.asarray, carry)
  standard = carry._replace(
    obs=jnp.asarray((raw.obs - MEAN[:2]) / STD[:2]),
    reward=jnp.asarray((raw.reward - MEAN[2]) / STD[2]),
  )
  now = jnp.asarray((np.asarray(obs) - MEAN[:2]) / STD[:2])
  dist = inner.distribution(learned, standard, now)
  np.testing.assert_allclose(action.raw, policies.take(dist, noise).raw)
  np.testing.assert_allclose(
    policy.distribution(params, carry, obs).log_prob(action.raw),
    action.log_prob,
    rtol=1e-5,
  )
  step = policies.Experience(obs, action.env, obs[:, 0], obs, 0 * obs[:, 0])
  after = policy.observe(params, carry, step)
  np.testing.assert_array_equal(after.obs[:, -1], obs)
  np.testing.assert_array_equal(after.reward[:, -1], obs[:, 0])


def test_a_rollout_is_judged_as_it_was_played():
  env = envs.make('point_direc')
  inner = policy_lib.make(
    policy_lib.Gaussian(2, (8,), units=4), 2, 2, length=LENGTH
  )
  policy = normalized_inputs.make(inner, 2)
  fresh = jax.jit(policy.init)(jax.random.PRNGKey(0))
  params = fresh._replace(moments=jax.tree.map(jnp.float32, moments()))
  rollout = functools.partial(
    real.rollout, env, policy, num_envs=3, horizon=7, time_limit=4
  )
  trajectory, _ = jax.jit(rollout)(params, jax.random.PRNGKey(1))
  judged = jax.jit(policy.over)(params, trajectory).log_prob(trajectory.action)
  np.testing.assert_allclose(judged, trajectory.log_prob, rtol=1e-3, atol=1e-4)


def test_moments_are_those_of_all_finite_transitions():
  """Also of those that the ring has dropped, however the steps are cut."""
  env = envs.make('point')
  still = policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Deterministic(0 * obs),
    noise=functools.partial(distributions.normal_noise, action_size=2),
  )
  section = off_policy_config.Collect(
    num_envs=3,
    episode_length=5,
    buffer_capacity=40,
    start_steps=1000,
    normalize_observations=True,
  )
  key = jax.random.PRNGKey(0)
  world = off_policy.start(env, still, (), key, section=section, metrics=())
  state = off_policy.State(base.start_counters(key), {}, (), *world)

  def collect(state, num_steps):
    return off_policy.collect(
      state, env, still, (), section=section, num_steps=num_steps
    )

  step = jax.jit(collect, static_argnums=1)
  rows = []
  for num_steps in (4, 9, 2):
    state = step(state, num_steps)
    newest = np.arange(-3 * num_steps, 0) + int(state.buffer.position)
    data = state.buffer.data
    rows.append(
      np.concatenate(
        [data.obs[newest % 40], data.reward[newest % 40, None]], -1
      )
    )
  rows = np.concatenate(rows).astype(np.float64)
  assert len(rows) == 45
  found = state.moments
  assert int(found.obs.total) == int(found.reward.total) == 45
  np.testing.assert_allclose(
    np.append(found.obs.mean, found.reward.mean), rows.mean(0), rtol=1e-4
  )
  variance = np.append(found.obs.squares, found.reward.squares) / 45
  np.testing.assert_allclose(variance, rows.var(0), rtol=1e-3)
  broken = jax.tree.map(lambda x: x[:4], state.buffer.data)
  broken = broken._replace(reward=jnp.full(4, jnp.nan))
  after = jax.jit(inputs.update)(state.moments, broken)
  jax.tree.map(np.testing.assert_array_equal, after, found)


def small(name: str, env: str, **values) -> shared.Experiment:
  known = {
    'env.name': env,
    'collect.num_envs': 2,
    'collect.steps_per_env': 12,
    'collect.episode_length': 60 if env == 'point_direc' else 5,
    'collect.buffer_capacity': 60,
    'collect.start_steps': 12,
    'collect.normalize_observations': True,
    'policy.hidden_sizes': (4,),
    'critic.hidden_sizes': (4,),
    'learn.batch_size': 8,
    'run.chunk': 12,
    'run.num_iterations': 3,
  }
  return shared.replaced(algorithms.config(name)(), {**known, **values})


def filled() -> buffer_lib.Buffer:
  """20 rows of one episode, far from zero."""
  rng = np.random.default_rng(1)
  rows = MEAN + STD * rng.uniform(-2, 2, (20, 3))
  buffer = buffer_lib.init_transitions(20, 2, 2)
  data = buffer.data._replace(
    obs=jnp.asarray(rows[:, :2], jnp.float32),
    next_obs=jnp.asarray(np.roll(rows[:, :2], -1, 0), jnp.float32),
    reward=jnp.asarray(rows[:, 2], jnp.float32),
    time=jnp.arange(20, dtype=buffer.data.time.dtype),
    episode=jnp.zeros_like(buffer.data.episode),
  )
  return buffer._replace(data=data, size=jnp.full_like(buffer.size, 20))


class Sampled:
  """The fields of a state that sampling reads."""

  def __init__(self, moments):
    self.buffer, self.moments = filled(), moments


@pytest.mark.parametrize('kind', ['sac', 'pearl', 'm3po'])
def test_minibatches_are_normalised_but_for_their_rewards(kind):
  """The same rows with and without moments; targets are in raw rewards."""
  section = off_policy_config.Learn(num_updates=1, batch_size=8)
  key = jax.random.PRNGKey(0)

  def sample(moments):
    state = Sampled(moments)
    if kind == 'sac':
      batch, _ = off_policy.sample(state, key, section=section)
      return batch.obs, batch.next_obs, (), batch.reward
    if kind == 'pearl':
      batch, _ = pearl_batches.sample(
        state, key, section=section, length=LENGTH
      )
      return batch.inputs.obs, batch.next_inputs, batch.inputs, batch.reward
    config = small(
      'm3po',
      'point_direc',
      **{
        'collect.num_envs': 1,
        'history.length': LENGTH,
        'batches.kind': 'mixed',
        'batches.model_share': 0.0,
        'learn.num_updates': 1,
      },
    )
    batch = m3po_batches.sample(
      envs.make('point_direc'),
      config,
      state.buffer,
      buffer_lib.init(30, jnp.zeros(26)),
      jnp.zeros(()),
      moments,
      key,
    )
    return (
      batch.inputs.obs,
      batch.next_inputs.obs,
      batch.next_inputs,
      batch.reward,
    )

  standard = jax.tree.map(jnp.float32, moments())
  raw, found = sample(()), sample(standard)
  for index in (0, 1):
    expected = (np.asarray(raw[index]) - MEAN[:2]) / STD[:2]
    np.testing.assert_allclose(found[index], expected, rtol=1e-3, atol=1e-3)
  np.testing.assert_array_equal(found[3], raw[3])
  if kind == 'sac':
    return
  before, after = raw[2].window, found[2].window
  live = np.asarray(before.mask) > 0
  assert live.any()
  np.testing.assert_allclose(
    np.asarray(after.reward)[live],
    (np.asarray(before.reward)[live] - MEAN[2]) / STD[2],
    rtol=1e-3,
    atol=1e-3,
  )


@pytest.mark.parametrize(('name', 'env'), [('sac', 'point'), ('ddpg', 'point')])
def test_an_iteration_learns_from_what_it_normalises(name, env):
  """Actions and updates go through the same moments."""
  config = small(name, env)
  algorithm = algorithms.make(name, envs.make(env), config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  update = jax.jit(algorithm.update)
  for _ in range(2):
    state, metrics = update(state)
  assert float(metrics['updates']) == 12 and int(state.moments.obs.total) == 48
  params = algorithm.policy_params(state)
  assert params.moments is state.moments
  obs = state.buffer.data.obs[:5]
  carry = algorithm.policy.start(params, jax.random.PRNGKey(1), (), 5)
  _, action = algorithm.policy.act(params, carry, obs, None)
  plain = params._replace(moments=normalized_inputs.start(obs.shape[1]))
  standard = normalized_inputs.normalize(state.moments, obs)
  _, same = algorithm.policy.act(plain, carry, standard, None)
  np.testing.assert_allclose(action.env, same.env, rtol=1e-5)


class Small(point.Point):
  """The point, whose position is observed in units of 8."""

  def observe(self, pipeline_state):
    return pipeline_state / 8

  def reward(self, obs, action, next_obs):
    return super().reward(8 * obs, action, 8 * next_obs)


def learned(name: str, env: envs.Environment):
  """The state and the metrics after two iterations."""
  config = tiny.of(name, collect__episode_length=20)
  config = shared.replaced(config, {'collect.normalize_observations': True})
  algorithm = algorithms.make(name, env, config, check=False)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  update = jax.jit(algorithm.update)
  for _ in range(2):
    state, metrics = update(state)
  return state, metrics


@pytest.mark.parametrize(
  'name', ['mbmpo', pytest.param('me_trpo', marks=pytest.mark.slow)]
)
def test_learning_in_models_does_not_depend_on_the_unit(name):
  """Up to the ridge of the baseline, whose features are observations."""
  _, metrics = learned(name, envs.make('point'))
  small, in_small = learned(name, Small())
  rtol = 0.02 if name == 'mbmpo' else 0.002
  for key in ('real/return', 'policy/std', 'model/val_loss'):
    np.testing.assert_allclose(in_small[key], metrics[key], rtol=rtol)
  data = np.asarray(small.buffer.data.obs, np.float64)[: int(small.buffer.size)]
  moments = small.policy.moments
  assert int(moments.total) == len(data) == 100
  np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-4)
  np.testing.assert_allclose(
    moments.squares, len(data) * data.var(0), rtol=1e-4
  )
