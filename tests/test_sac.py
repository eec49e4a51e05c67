"""SAC: its numbers against plain NumPy, its targets, and that it learns."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as shared
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.sac import algorithm as sac_algorithm
from mbmpo_jax.algorithms.sac import config as config_lib
from mbmpo_jax.algorithms.sac import learner as learner_lib
from mbmpo_jax.algorithms.sac import networks as sac_networks
from mbmpo_jax.objectives import q_learning
from mbmpo_jax.objectives import sac
from tests import learning
from tests import reference_q
from tests import tiny

SIZES = reference_q.SIZES


class World:
  """What networks need to know."""

  observation_size, action_size = SIZES.obs, SIZES.action


def make_config(**overrides: Any) -> config_lib.Config:
  values = {
    'env.name': 'point',
    'policy.hidden_sizes': (3,),
    'policy.activation': 'tanh',
    'policy.min_log_std': -2.0,
    'policy.max_log_std': 1.0,
    'critic.hidden_sizes': (4, 3),
    'critic.activation': 'tanh',
    'collect.episode_length': 30,
  }
  return shared.replaced(config_lib.Config(), {**values, **overrides})


@pytest.fixture
def networks(x64) -> learner_lib.Networks:
  config = make_config()
  policy = sac_networks.make_policy(World(), config.policy)
  return sac_networks.make(World(), config, policy)


def params_of(networks: learner_lib.Networks) -> tuple[Any, Any, Any]:
  """Policy, critics and target critics, biases not zero."""
  keys = jax.random.split(jax.random.PRNGKey(0), 3)
  trees = (
    networks.init_policy(keys[0]),
    networks.init_critic(keys[1]),
    networks.init_critic(keys[2]),
  )
  return jax.tree.map(lambda x: x + 0.1, trees)


def policy_by_hand(params: Any) -> Callable[..., Any]:
  """obs, noise -> squashed action, log-probability."""
  net = params['params']['MLP_0']

  def sample(obs: np.ndarray, noise: np.ndarray) -> tuple[Any, Any]:
    mean, x = np.split(reference_q.mlp(net, obs), 2, -1)
    log_std = -2 + 3 / (1 + np.exp(-x))
    raw = mean + np.exp(log_std) * noise
    gaussian = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    slope = np.log(1 - np.tanh(raw) ** 2)
    return np.tanh(raw), (gaussian - slope).sum(-1)

  return sample


def test_targets_and_losses_are_those_of_numpy(networks):
  policy, critic, target = params_of(networks)
  batch = reference_q.batch()
  noise, next_noise = reference_q.noises()
  alpha, gamma, entropy = 0.3, 0.9, -2.0

  act = policy_by_hand(policy)
  next_action, next_log_prob = act(batch.next_obs, next_noise)
  y = batch.reward + gamma * (1 - batch.terminated) * (
    reference_q.qs(target, batch.next_obs, next_action).min(-1)
    - alpha * next_log_prob
  )
  found = sac.targets(
    networks.q,
    target,
    batch.next_obs,
    sac.sample(networks.dist(policy, batch.next_obs), next_noise),
    batch.reward,
    batch.terminated,
    discount=gamma,
    temperature=alpha,
  )
  np.testing.assert_allclose(found, y, rtol=1e-10)
  # What a termination ends, a time limit does not: of two like steps.
  assert batch.terminated[0] == 1 and batch.truncated[1] == 1
  np.testing.assert_allclose(found[0], batch.reward[0])
  assert abs(found[1] - batch.reward[1]) > 0.01

  def critic_loss(params: Any) -> Any:
    q = reference_q.qs(params, batch.obs, batch.action)
    return 0.5 * np.mean(np.sum((q - y[:, None]) ** 2, -1))

  (loss, q), gradient = jax.value_and_grad(
    q_learning.critic_loss, has_aux=True
  )(critic, networks.q, batch.obs, batch.action, found)
  np.testing.assert_allclose(loss, critic_loss(critic), rtol=1e-10)
  np.testing.assert_allclose(
    q, reference_q.qs(critic, batch.obs, batch.action), rtol=1e-10
  )
  tiny.assert_close(gradient, reference_q.gradient(critic_loss, critic), 1e-8)

  def actor_loss(params: Any) -> Any:
    action, log_prob = policy_by_hand(params)(batch.obs, noise)
    q = reference_q.qs(critic, batch.obs, action)
    smallest = np.take_along_axis(q, q.real.argmin(-1)[:, None], -1)[:, 0]
    return np.mean(alpha * log_prob - smallest)

  (loss, drawn), gradient = jax.value_and_grad(sac.actor_loss, has_aux=True)(
    policy,
    networks.dist,
    batch.obs,
    noise,
    networks.q,
    critic,
    temperature=alpha,
  )
  np.testing.assert_allclose(loss, actor_loss(policy), rtol=1e-10)
  tiny.assert_close(gradient, reference_q.gradient(actor_loss, policy), 1e-8)

  log_prob = act(batch.obs, noise)[1]
  np.testing.assert_allclose(drawn.log_prob, log_prob, rtol=1e-10)
  loss, slope = jax.value_and_grad(sac.temperature_loss)(
    jnp.log(alpha), drawn.log_prob, target_entropy=entropy
  )
  expected = -alpha * np.mean(log_prob + entropy)
  np.testing.assert_allclose([loss, slope], [expected, expected], rtol=1e-10)


def test_an_update_steps_each_of_the_four_in_turn(networks):
  """By Adam's first step, rate * sign; the policy follows the new critics."""
  config = make_config(
    **{
      'policy.learning_rate': 1e-3,
      'critic.learning_rate': 1e-2,
      'temperature.learning_rate': 1e-4,
      'temperature.initial': 0.3,
      'temperature.target_entropy': -0.5,
      'learn.target_rate': 0.25,
    }
  )
  hyper = base.hyper(config)
  before = learner_lib.init(networks, jax.random.PRNGKey(3), hyper)
  tiny.assert_close(before.target, before.critic)
  # Targets that lag behind, as they do later.
  before = before._replace(
    target=jax.tree.map(lambda x: x + 0.1, before.target)
  )
  rows = reference_q.batch()
  batch = learner_lib.Batch(
    rows.obs, rows.action, rows.reward, rows.next_obs, rows.terminated
  )
  update = functools.partial(
    learner_lib.update, networks=networks, learn_temperature=True
  )
  key = jax.random.PRNGKey(4)
  after, metrics, finite = update(before, hyper, batch, key)
  assert finite

  def moved(name: str, rate: float) -> None:
    change = jax.tree.map(
      lambda new, old: jnp.abs(new - old) / rate,
      getattr(after, name),
      getattr(before, name),
    )
    for leaf in jax.tree.leaves(change):
      np.testing.assert_allclose(leaf, 1, atol=1e-3)

  moved('policy', 1e-3)
  moved('critic', 1e-2)
  moved('log_temperature', 1e-4)
  tiny.assert_close(
    after.target,
    jax.tree.map(lambda c, t: t + (c - t) / 4, after.critic, before.target),
  )
  # Less entropy than wanted raises its weight, more lowers it.
  wanted = -0.5 * SIZES.action
  assert (after.log_temperature < before.log_temperature) == (
    metrics['policy/entropy'] > wanted
  )
  # The critics' loss is towards the target critics and the entropy.
  noise = networks.noise(jax.random.split(key)[1], (rows.reward.size,))
  next_action, log_prob = policy_by_hand(before.policy)(rows.next_obs, noise)
  q = reference_q.qs(before.target, rows.next_obs, next_action).min(-1)
  discount = config.learn.discount
  y = rows.reward + discount * (1 - rows.terminated) * (q - 0.3 * log_prob)
  q = reference_q.qs(before.critic, rows.obs, rows.action)
  loss = 0.5 * np.mean(np.sum((q - y[:, None]) ** 2, -1))
  np.testing.assert_allclose(metrics['critic/loss'], loss, rtol=1e-9)
  # The policy's loss is that with the critics as they are after their step.
  noise = networks.noise(jax.random.split(key)[0], (rows.reward.size,))
  loss, _ = sac.actor_loss(
    before.policy,
    networks.dist,
    rows.obs,
    noise,
    networks.q,
    after.critic,
    temperature=0.3,
  )
  np.testing.assert_allclose(metrics['policy/loss'], loss, rtol=1e-10)
  still = functools.partial(
    learner_lib.update, networks=networks, learn_temperature=False
  )(before, hyper, batch, key)
  assert still.learner.log_temperature == before.log_temperature


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (
      {'policy.max_log_std': -2.0},
      r'policy.max_log_std=-2.0: must be > -2.0, policy.min_log_std',
    ),
    (
      {'run.chunk': 300},
      'collect.steps_per_env=1000: must be a multiple of 300, run.chunk',
    ),
    (
      {'learn.update_every': 3},
      'run.chunk=250: must be a multiple of 3, learn.update_every',
    ),
    ({'collect.buffer_capacity': 200}, 'collect.buffer_capacity=200: must be'),
    (
      {'collect.start_steps': 2000, 'run.num_iterations': 2},
      'collect.start_steps=2000: must be < 2000, run.num_iterations',
    ),
    ({'learn.num_updates': 0}, 'learn.num_updates=0: must be an int >= 1'),
    ({'collect.episode_length': 31}, 'collect.episode_length=31: must be <='),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(values, message):
  with pytest.raises(shared.ConfigError, match=message):
    validation.validate(make_config(**values), env_max_episode_steps=30)


def test_choices_are_refused():
  with pytest.raises(shared.ConfigError, match='must have continuous actions'):
    sac_algorithm.make(learning.Choices(), make_config(), check=False)


def learn_point() -> float:
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
    policy=config_lib.Policy(hidden_sizes=(32, 32), learning_rate=3e-3),
    critic=off_policy_config.Critic(hidden_sizes=(32, 32), learning_rate=3e-3),
    temperature=config_lib.Temperature(initial=0.2, learning_rate=3e-3),
    learn=off_policy_config.Learn(
      num_updates=3, batch_size=64, discount=0.9, target_rate=0.02
    ),
  )
  return learning.evaluated(config, iterations=1)


def test_learns_point():
  # Standing still gets -80 in expectation, the optimum -14.3.
  assert learn_point() > -30


@pytest.mark.slow
def test_does_not_learn_with_the_reward_reversed(monkeypatch):
  bootstrapped = q_learning.bootstrapped
  monkeypatch.setattr(
    q_learning,
    'bootstrapped',
    lambda reward, *args, **rest: bootstrapped(-reward, *args, **rest),
  )
  # It flees: the mean of a policy that only failed to learn is -80.
  assert learn_point() < -120


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_the_preset_gets_nine_tenths_of_the_optimum_on_point(seed):
  """Of what it improves on random actions."""
  assert learning.share_of_optimum_on_point('sac/point', seed) > 0.9
