"""DDPG and TD3: their numbers against plain NumPy, delays, and learning."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as shared
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.ddpg import algorithm as ddpg_algorithm
from mbmpo_jax.algorithms.ddpg import config as config_lib
from mbmpo_jax.algorithms.ddpg import learner as learner_lib
from mbmpo_jax.algorithms.ddpg import networks as ddpg_networks
from mbmpo_jax.objectives import dpg
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import squashed
from tests import learning
from tests import reference_q
from tests import tiny

SIZES = reference_q.SIZES


class World:
  """What networks need to know."""

  observation_size, action_size = SIZES.obs, SIZES.action


def make_config(kind: str, **overrides: Any) -> config_lib.Config:
  values = {
    'env.name': 'point',
    'collect.episode_length': 30,
    'policy.hidden_sizes': (3,),
    'policy.activation': 'tanh',
    'critic.hidden_sizes': (4, 3),
    'critic.activation': 'tanh',
    'learn.kind': kind,
  }
  return shared.replaced(config_lib.Config(), {**values, **overrides})


def policy_by_hand(params: Any, obs: np.ndarray) -> np.ndarray:
  return np.tanh(reference_q.mlp(params['params']['MLP_0'], obs))


def rows() -> types.Transition:
  batch = reference_q.batch()
  number = np.zeros(SIZES.rows, np.int32)
  return types.Transition(*batch, episode=number, time=number)


@pytest.mark.parametrize(('kind', 'critics'), [('ddpg', 1), ('td3', 2)])
def test_targets_and_losses_are_those_of_numpy(kind, critics, x64):
  networks = ddpg_networks.make(World(), make_config(kind))
  hyper = base.hyper(make_config(kind))
  keys = jax.random.split(jax.random.PRNGKey(0))
  nets, target = (
    jax.tree.map(lambda x: x + 0.1, learner_lib.init(networks, key, hyper).nets)
    for key in keys
  )
  batch, gamma = reference_q.batch(), 0.9
  _, noise = reference_q.noises()
  std, clip = 0.4, 0.3

  next_action = policy_by_hand(target.policy, batch.next_obs)
  found_action = networks.act(target.policy, batch.next_obs)
  if kind == 'td3':
    shift = np.clip(std * noise, -clip, clip)
    assert np.any(shift == clip) and np.any(abs(shift) < clip)
    next_action = np.clip(next_action + shift, -1, 1)
    found_action = dpg.smoothed(found_action, noise, std=std, clip=clip)
  q = reference_q.qs(target.critic, batch.next_obs, next_action)
  assert q.shape == (SIZES.rows, critics)
  y = batch.reward + gamma * (1 - batch.terminated) * q.min(-1)
  found = dpg.targets(
    networks.q,
    target.critic,
    batch.next_obs,
    found_action,
    batch.reward,
    batch.terminated,
    discount=gamma,
  )
  np.testing.assert_allclose(found, y, rtol=1e-10)
  # What a termination ends, a time limit does not: of two like steps.
  np.testing.assert_allclose(found[0], batch.reward[0])
  assert abs(found[1] - batch.reward[1]) > 0.01

  def actor_loss(params: Any) -> Any:
    action = policy_by_hand(params, batch.obs)
    return -np.mean(reference_q.qs(nets.critic, batch.obs, action)[:, 0])

  for q_fn in (networks.q, networks.first_q):
    loss, gradient = jax.value_and_grad(dpg.actor_loss)(
      nets.policy, networks.act, batch.obs, q_fn, nets.critic
    )
    np.testing.assert_allclose(loss, actor_loss(nets.policy), rtol=1e-10)
    tiny.assert_close(
      gradient, reference_q.gradient(actor_loss, nets.policy), 1e-8
    )


@pytest.mark.parametrize(('kind', 'delay'), [('ddpg', 1), ('td3', 3)])
def test_policy_and_targets_wait_for_the_critics(kind, delay, x64):
  """TD3's for `policy_delay` updates of these; DDPG's for none."""
  overrides = {'learn.policy_delay': 3} if kind == 'td3' else {}
  config = make_config(kind, **overrides)
  networks = ddpg_networks.make(World(), config)
  hyper = base.hyper(config)
  learner = learner_lib.init(networks, jax.random.PRNGKey(0), hyper)
  update = jax.jit(
    functools.partial(
      learner_lib.update, networks=networks, section=config.learn
    )
  )

  def same(a: Any, b: Any) -> bool:
    equal = jax.tree.map(lambda x, y: bool(jnp.all(x == y)), a, b)
    return all(jax.tree.leaves(equal))

  for index in range(1, 7):
    after, metrics, finite = update(
      learner, hyper, rows(), jax.random.PRNGKey(index)
    )
    assert finite and int(after.updates) == index
    waits = index % delay != 0
    assert not same(after.nets.critic, learner.nets.critic)
    assert same(after.nets.policy, learner.nets.policy) == waits
    assert same(after.target, learner.target) == waits
    assert np.isnan(metrics['policy/loss']) == waits
    if not waits:
      tiny.assert_close(
        after.target,
        jax.tree.map(
          lambda new, old: old + 0.005 * (new - old), after.nets, learner.target
        ),
      )
    learner = after


@pytest.mark.parametrize('kind', ['ddpg', 'td3'])
def test_an_update_is_that_of_numpy(kind, x64):
  """The gradients of critics and policy are in Adam's first moments."""
  config = make_config(
    kind,
    **{'learn.discount': 0.9, 'learn.smoothing_std': 0.4}
    if kind == 'td3'
    else {'learn.discount': 0.9},
  )
  networks, hyper = ddpg_networks.make(World(), config), base.hyper(config)
  learner, other = (
    learner_lib.init(networks, jax.random.PRNGKey(seed), hyper)
    for seed in range(2)
  )
  # The next update is the second one, in which TD3's policy moves.
  learner = learner._replace(target=other.nets, updates=jnp.int32(1))
  batch, key = reference_q.batch(), jax.random.PRNGKey(2)
  after, metrics, finite = learner_lib.update(
    learner, hyper, rows(), key, networks=networks, section=config.learn
  )
  assert finite
  next_action = policy_by_hand(other.nets.policy, batch.next_obs)
  if kind == 'td3':
    noise = distributions.normal_noise(key, (SIZES.rows,), SIZES.action)
    shift = np.clip(0.4 * np.asarray(noise), -0.5, 0.5)
    next_action = np.clip(next_action + shift, -1, 1)
  q = reference_q.qs(other.nets.critic, batch.next_obs, next_action)
  y = batch.reward + 0.9 * (1 - batch.terminated) * q.min(-1)

  def critic_loss(params: Any) -> Any:
    q = reference_q.qs(params, batch.obs, batch.action)
    return 0.5 * np.mean(np.sum((q - y[:, None]) ** 2, -1))

  def policy_loss(params: Any) -> Any:
    action = policy_by_hand(params, batch.obs)
    return -np.mean(reference_q.qs(after.nets.critic, batch.obs, action)[:, 0])

  for name, loss in (('critic', critic_loss), ('policy', policy_loss)):
    before = getattr(learner.nets, name)
    np.testing.assert_allclose(metrics[f'{name}/loss'], loss(before), rtol=1e-9)
    moment = getattr(after.optimizers, name)[0].mu
    tiny.assert_close(
      jax.tree.map(lambda x: 10 * x, moment),
      reference_q.gradient(loss, before),
      1e-8,
    )


def test_it_collects_with_noise():
  """Of the given deviation, around the greedy action."""
  config = make_config(
    'ddpg',
    **{
      'policy.exploration_std': 0.1,
      'policy.learning_rate': 1e-9,
      'collect.num_envs': 10,
      'collect.steps_per_env': 60,
      'collect.start_steps': 100,
      'run.chunk': 60,
    },
  )
  algorithm = ddpg_algorithm.make(envs.make('point'), config, check=False)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  state, _ = jax.jit(algorithm.update)(state)
  rows = jax.tree.map(lambda x: np.asarray(x[100:600]), state.buffer.data)
  greedy = policy_by_hand(algorithm.policy_params(state), rows.obs)
  inside = abs(greedy) < 0.7  # where noise is hardly ever clipped
  assert inside.mean() > 0.5
  shift = (np.asarray(rows.action) - greedy)[inside]
  np.testing.assert_allclose(np.std(shift), 0.1, rtol=0.15)


def test_it_explores_about_what_it_does_greedily():
  """And is judged without that noise."""
  algorithm = ddpg_algorithm.make(
    envs.make('point'), make_config('ddpg'), check=False
  )
  policy = algorithm.policy
  params = policy.init(jax.random.PRNGKey(0))
  obs = jax.random.normal(jax.random.PRNGKey(1), (2000, 2))
  noise = policy.noise(jax.random.PRNGKey(2), (2000,))
  _, plain = policy.act(params, (), obs, noise)
  _, greedy = policy.act(params, (), obs, None)
  np.testing.assert_array_equal(plain.env, greedy.env)

  noisy = squashed.exploring(policy, 0.3)
  _, action = jax.jit(noisy.act)(params, (), obs, noise)
  np.testing.assert_allclose(jnp.std(action.raw - greedy.raw), 0.3, rtol=0.05)
  assert np.all(abs(action.env) <= 1)
  assert np.all(np.isfinite(action.log_prob))
  np.testing.assert_array_equal(
    noisy.act(params, (), obs, None)[1].env, greedy.env
  )


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'learn.kind': 'td4'}, r"learn.kind='td4': must be one of .*'td3'"),
    (
      {'learn.policy_delay': 3},
      r"learn.policy_delay=3: must be 2, as learn.kind='ddpg' does not",
    ),
    (
      {'learn.smoothing_std': 0.1},
      r'learn.smoothing_std=0.1: must be 0.2',
    ),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(values, message):
  with pytest.raises(shared.ConfigError, match=message):
    validation.validate(make_config('ddpg', **values), env_max_episode_steps=30)


def learn_point(kind: str) -> float:
  """The return after 1,500 steps in episodes of 30."""
  config = config_lib.Config(
    env=shared.Env(name='point'),
    collect=off_policy_config.Collect(
      num_envs=5,
      steps_per_env=300,
      episode_length=30,
      buffer_capacity=2000,
      start_steps=200,
    ),
    run=off_policy_config.Run(chunk=300),
    policy=config_lib.Policy(
      hidden_sizes=(32, 32), learning_rate=1e-3, exploration_std=0.3
    ),
    critic=off_policy_config.Critic(hidden_sizes=(32, 32), learning_rate=3e-3),
    learn=config_lib.Learn(
      kind=kind, num_updates=3, batch_size=64, discount=0.9, target_rate=0.02
    ),
  )
  return learning.evaluated(config, iterations=1)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['ddpg', 'td3'])
def test_learns_point(kind):
  # Standing still gets -80 in expectation, the optimum -14.3.
  assert learn_point(kind) > -30


@pytest.mark.slow
def test_does_not_learn_with_the_critic_reversed(monkeypatch):
  actor_loss = dpg.actor_loss
  monkeypatch.setattr(dpg, 'actor_loss', lambda *args: -actor_loss(*args))
  # It flees: the mean of a policy that only failed to learn is -80.
  assert learn_point('ddpg') < -120


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_the_preset_gets_nine_tenths_of_the_optimum_on_point(seed):
  """Of what it improves on random actions."""
  assert learning.share_of_optimum_on_point('ddpg/point', seed) > 0.9
