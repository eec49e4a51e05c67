"""PE-PPO: what its networks see, in any order of what they remember."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.pe_ppo import algorithm as pe_ppo
from mbmpo_jax.algorithms.pe_ppo import config as pe_ppo_config
from mbmpo_jax.algorithms.pe_ppo import networks
from mbmpo_jax.algorithms.ppo import config as ppo_config
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.networks import critics
from mbmpo_jax.policies import context as context_lib
from mbmpo_jax.policies import normalized
from mbmpo_jax.rollouts import real
from mbmpo_jax.training.launch import tiny as tiny_lib
from tests import learning


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def some_points(num=3, window=4) -> sets.Points:
  mask = np.ones((num, window))
  mask[0, :2] = 0
  x, y = random(num, window, 4), random(num, window, 3, seed=1)
  x[0, 0] = np.nan  # Of a place that is empty.
  return sets.Points(*map(jnp.asarray, (x, y, mask)))


def test_the_latent_is_of_the_set(x64):
  """Against NumPy; neither order nor empty places matter."""
  net = networks.WithLatent(critics.Value((5,)), (6,), 2, 0.1)
  noise, obs = random(3, 2, seed=2), random(3, 2, seed=3)

  def seen(points: sets.Points) -> context_lib.Seen:
    memory = context_lib.Memory(points, jnp.asarray(noise))
    return context_lib.Seen(jnp.asarray(obs), memory)

  points = some_points()
  theta = net.init(jax.random.PRNGKey(0), seen(points))
  found = net.apply(theta, seen(points), method='latent')
  divergence = net.apply(theta, seen(points), method='divergence')
  weights = jax.tree.map(np.asarray, theta['params'])

  def dense(layer, x):
    return x @ layer['kernel'] + layer['bias']

  for i in range(3):
    live = np.asarray(points.mask[i]) > 0
    joined = np.concatenate([points.x[i], points.y[i]], -1)[live]
    hidden = np.maximum(dense(weights['point']['MLP_0']['Dense_0'], joined), 0)
    out = dense(weights['latent_head']['Dense_0'], hidden.mean(0))
    mean, std = out[:2], 0.1 + 0.9 / (1 + np.exp(-out[2:]))
    np.testing.assert_allclose(found.mean[i], mean, rtol=1e-10)
    np.testing.assert_allclose(np.exp(found.log_std[i]), std, rtol=1e-10)
    kl = np.sum(0.5 * (std**2 + mean**2 - 1) - np.log(std))
    np.testing.assert_allclose(divergence[i], kl, rtol=1e-9)
    head = weights['head']['MLP_0']
    z = mean + std * noise[i]
    value = dense(
      head['Dense_1'],
      np.tanh(dense(head['Dense_0'], np.concatenate([obs[i], z]))),
    )
    np.testing.assert_allclose(
      net.apply(theta, seen(points))[i], value[0], rtol=1e-9
    )
  turned = jax.tree.map(lambda x: x[:, ::-1], points)
  np.testing.assert_allclose(
    net.apply(theta, seen(turned)), net.apply(theta, seen(points)), rtol=1e-10
  )


def tiny(world: str, **values):
  config = tiny_lib.shrink(pe_ppo_config.Config())
  values = {name.replace('__', '.'): x for name, x in values.items()}
  config = config_lib.replaced(
    config,
    {
      'env.name': world,
      'collect.num_envs': 4,
      'collect.episode_length': 6,
      **values,
    },
  )
  return envs.make(world), config


@pytest.fixture(scope='module')
def learned():
  """After two iterations in a world of choices, whose tasks differ."""
  env, config = tiny('acrobot')
  algorithm = pe_ppo.make(env, config)
  init = jax.jit(algorithm.init)
  state = init(jax.random.PRNGKey(0), base.hyper(config))
  update = jax.jit(algorithm.update)
  for _ in range(2):
    state, metrics = update(state)
    assert np.isfinite(metrics['value/loss'])
    assert metrics['nonfinite/updates'] == 0
  return env, config, algorithm, state


def episode(learned, **options) -> types.Trajectory:
  env, _, algorithm, state = learned
  rollout = functools.partial(
    real.rollout, env, algorithm.policy, num_envs=2, horizon=9, time_limit=6
  )
  params = algorithm.policy_params(state)
  return jax.jit(rollout)(params, jax.random.PRNGKey(3), **options)[0]


def reading(learned) -> context_lib.Reading:
  env, config, *_ = learned
  return pe_ppo._reading(env, config)


def close(x: jax.Array, y: jax.Array) -> None:
  np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_it_remembers_its_episode_and_no_other(learned):
  steps = episode(learned)
  count = np.asarray(steps.extras.points.mask).sum(-1)
  # A window of 4; the seventh step is the first of another episode.
  np.testing.assert_array_equal(count[:, 0], [0, 1, 2, 3, 4, 4, 0, 1, 2])
  noise = np.asarray(steps.extras.noise)
  np.testing.assert_array_equal(noise[:6], np.broadcast_to(noise[0], (6, 2, 2)))
  assert np.all(noise[6] != noise[5])
  seen = reading(learned).seen(learned[3].moments, steps)
  # What is remembered after a step is remembered before the next.
  jax.tree.map(
    close,
    jax.tree.map(lambda x: x[:5], seen.next_obs.memory),
    jax.tree.map(lambda x: x[1:6], seen.obs.memory),
  )


@pytest.mark.parametrize('normalize', [False, True])
def test_an_angle_that_passes_pi_is_no_jump(normalize):
  """Its change is remembered by the shorter way, in deviations."""
  env = envs.make('acrobot')
  reading = context_lib.Reading(env.change, normalize)
  obs = jnp.asarray(random(6, 4))
  moments = ()
  if normalize:
    moments = normalized.update(normalized.start(4), obs, jnp.ones(6))
  before = jnp.array([[3.1, -3.0, 0.5, -1.0]])
  change = jnp.array([[0.2, -0.4, 0.1, 0.3]])
  after = env.project(before + change)
  assert np.all(np.abs(after - before)[0, :2] > 5)
  point = reading.point(
    moments, before, jnp.ones((1, 3)), jnp.array([-1.0]), after
  )
  std, mean = np.ones((1, 4)), np.zeros((1, 4))
  if normalize:
    std, mean = np.std(obs, 0)[None], np.mean(obs, 0)[None]
  np.testing.assert_allclose(point.y[0, 0], -1)
  np.testing.assert_allclose(point.y[:, 1:], change / std, rtol=1e-4)
  np.testing.assert_allclose(point.x[:, :4], (before - mean) / std, rtol=1e-4)


def test_densities_are_replayed(learned):
  _, _, algorithm, state = learned
  steps = episode(learned)
  dist = algorithm.policy.over(algorithm.policy_params(state), steps)
  np.testing.assert_allclose(
    dist.log_prob(steps.action), steps.log_prob, rtol=1e-5, atol=1e-5
  )


def test_the_loss_holds_latents_near_the_prior(learned):
  """The larger its weight, the smaller the divergence of both encoders."""
  env, config, algorithm, state = learned
  seen = reading(learned).seen(state.moments, episode(learned))
  update = jax.jit(algorithm.update)

  def divergences(weight: float) -> list[float]:
    hyper = {**state.hyper, 'learn.kl_coef': jnp.asarray(weight)}
    after = state._replace(hyper=hyper)
    for _ in range(3):
      after, metrics = update(after)
    divergences = [
      float(jnp.mean(net.apply(theta, seen.obs, method='divergence')))
      for net, theta in zip(
        pe_ppo._networks(env, config), (after.policy, after.value), strict=True
      )
    ]
    reported.append((float(metrics['encoder/kl']), np.mean(divergences)))
    return divergences

  reported = []
  free, held = divergences(0.0), divergences(100.0)
  assert all(low < high for low, high in zip(held, free, strict=True))
  # The episode here is another one than that of the update.
  for metric, measured in reported:
    assert 0.7 * measured < metric < 1.4 * measured


def test_adaptation_hands_on_the_transitions(learned):
  _, config, algorithm, state = learned
  steps = jax.tree.map(lambda x: x[:3, :1], episode(learned))
  params, points = jax.jit(algorithm.adapt)(state, steps, jax.random.PRNGKey(0))
  assert points.mask.tolist() == [0, 1, 1, 1]
  jax.tree.map(
    np.testing.assert_array_equal, params, algorithm.policy_params(state)
  )
  # As the policy itself remembered them, one after another.
  after = reading(learned).seen(state.moments, episode(learned))
  whole = jax.tree.map(lambda x: x[2, 0], after.next_obs.memory.points)
  jax.tree.map(close, points, whole)
  adapt = jax.jit(algorithm.adapt)
  # Angles of infinity are turned to NaN; angular velocities are not.
  for bad in (np.nan, np.inf, 1e12):
    broken = steps._replace(next_obs=steps.next_obs.at[1, :, 2:].set(bad))
    _, left = adapt(state, broken, jax.random.PRNGKey(0))
    assert left.mask.tolist() == [0, 1, 0, 1] and np.all(np.isfinite(left.y))
  first = episode(learned, context=points)
  assert first.extras.points.mask[0].tolist() == [[0, 1, 1, 1]] * 2
  with pytest.raises(config_lib.ConfigError, match='context=5 transitions'):
    algorithm.adapt(
      state,
      jax.tree.map(lambda x: x[:5, :1], episode(learned)),
      jax.random.PRNGKey(0),
    )
  assert config.context.window == 4


@pytest.mark.slow
def test_it_finds_out_what_is_hidden():
  """The best return is 60; PPO, which has no memory, gets 0."""
  config = learning.preset('pe_ppo/point_direc')
  found = learning.evaluated(config, 20)
  blind = learning.evaluated(_without_context(config), 20)
  print(f'pe_ppo: {found:.1f}, ppo: {blind:.1f}')
  assert found > 30
  assert abs(blind) < 8


def _without_context(config: pe_ppo_config.Config) -> ppo_config.Config:
  """PPO with the same settings."""
  learn = {
    field.name: getattr(config.learn, field.name)
    for field in dataclasses.fields(ppo_config.Learn)
  }
  return ppo_config.Config(
    env=config.env,
    collect=config.collect,
    policy=config.policy,
    value=config.value,
    advantage=config.advantage,
    learn=ppo_config.Learn(**learn),
  )
