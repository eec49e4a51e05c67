"""PEARL: its contexts, posterior and encoder's gradient, and that it learns."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as shared
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.pearl import algorithm as pearl
from mbmpo_jax.algorithms.pearl import batches
from mbmpo_jax.algorithms.pearl import config as pearl_config
from mbmpo_jax.algorithms.pearl import learner as learner_lib
from mbmpo_jax.algorithms.pearl import networks as networks_lib
from mbmpo_jax.algorithms.sac import learner as sac
from mbmpo_jax.networks import context
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import real
from mbmpo_jax.training.launch import tiny as tiny_lib
from tests import learning
from tests import reference_history
from tests import reference_q
from tests import test_sac
from tests import tiny

LENGTH = 3
SIZES = reference_q.SIZES


def make_config(**values: Any) -> pearl_config.Config:
  """W = 3, episodes of 10 steps on `point_direc`; networks are analytic."""
  config = tiny_lib.shrink(pearl_config.Config())
  return shared.replaced(
    config,
    {
      'env.name': 'point_direc',
      'collect.episode_length': 10,
      'context.hidden_sizes': (4, 3),
      'context.activation': 'tanh',
      'policy.hidden_sizes': (3,),
      'policy.activation': 'tanh',
      'policy.min_log_std': -2.0,
      'policy.max_log_std': 1.0,
      'critic.hidden_sizes': (4, 3),
      'critic.activation': 'tanh',
      **values,
    },
  )


def posterior_by_hand(
  mean: np.ndarray, variance: np.ndarray, mask: np.ndarray
) -> tuple[Any, Any]:
  """Mean and variance [Z] of N(0, I) times the Gaussians that there are."""
  precision, weighted = 1.0, 0.0
  for n in np.flatnonzero(mask):
    precision = precision + 1 / variance[n]
    weighted = weighted + mean[n] / variance[n]
  zeros = np.zeros(mean.shape[-1])
  return weighted / precision + zeros, 1 / precision + zeros


def encoder_by_hand(
  params: Any, features: np.ndarray, mask: np.ndarray
) -> tuple[Any, Any]:
  """The same [B, Z] of contexts [B, C]; also of complex parameters."""
  outputs = reference_q.mlp(params['params']['MLP_0'], features)
  mean, raw = np.split(outputs, 2, -1)
  variance = 1e-6 + np.log(1 + np.exp(raw))
  rows = [
    posterior_by_hand(*row) for row in zip(mean, variance, mask, strict=True)
  ]
  means, variances = zip(*rows, strict=True)
  return np.stack(means), np.stack(variances)


def draw_contexts(rows: int = SIZES.rows) -> tuple[np.ndarray, np.ndarray]:
  """Features [rows, 3, D] and masks of 0, 1, 2, 3, 0, ... transitions."""
  rng = np.random.default_rng(3)
  size = 2 * SIZES.obs + SIZES.action + 1
  known = np.arange(LENGTH)[::-1] < (np.arange(rows) % 4)[:, None]
  return rng.normal(size=(rows, LENGTH, size)), known.astype(float)


def test_the_posterior_is_a_product_of_gaussians(x64):
  rng = np.random.default_rng(0)
  mean = rng.normal(size=(6, 5, 2))
  variance = rng.gamma(1, size=(6, 5, 2))
  mask = (rng.uniform(size=(6, 5)) < 0.5).astype(float)
  mask[0] = 0
  mean[0], variance[0] = np.nan, np.nan
  found = context.posterior(mean, variance, mask)
  for n in range(6):
    expected, var = posterior_by_hand(mean[n], variance[n], mask[n])
    np.testing.assert_allclose(found.mean[n], expected, rtol=1e-12)
    np.testing.assert_allclose(np.exp(2 * found.log_std[n]), var, rtol=1e-12)
  # Without a context it is the prior.
  np.testing.assert_array_equal(found.mean[0], np.zeros(2))
  np.testing.assert_array_equal(found.log_std[0], np.zeros(2))


@pytest.fixture
def encoder(x64) -> tuple[context.Encoder, Any]:
  """And its parameters, biases not zero."""
  network = context.Encoder(2, (4, 3), 'tanh')
  features, mask = draw_contexts()
  params = jax.jit(network.init)(jax.random.PRNGKey(0), features, mask)
  return network, jax.tree.map(lambda x: x + 0.1, params)


def test_the_order_of_a_context_does_not_matter(encoder):
  network, params = encoder
  features, mask = draw_contexts()
  apply = jax.jit(network.apply)
  found = apply(params, features, mask)
  expected, variance = encoder_by_hand(params, features, mask)
  np.testing.assert_allclose(found.mean, expected, rtol=1e-10)
  np.testing.assert_allclose(np.exp(2 * found.log_std), variance, rtol=1e-10)
  for order in ((2, 0, 1), (1, 0, 2)):
    again = apply(params, features[:, order], mask[:, order])
    tiny.assert_close(again, found, 1e-12)


def test_a_masked_context_is_a_shorter_one(encoder):
  """Whatever is in the padding; no gradient comes of it, either."""
  network, params = encoder
  features, mask = draw_contexts(4)
  spoilt = np.where(mask[..., None] > 0, features, np.nan)
  apply = jax.jit(network.apply)
  for n in range(1, 4):
    short = features[n : n + 1, LENGTH - n :]
    tiny.assert_close(
      apply(params, spoilt[n : n + 1], mask[n : n + 1]),
      apply(params, short, np.ones((1, n))),
      1e-12,
    )

  def total(params: Any, features: Any) -> jax.Array:
    return jnp.sum(network.apply(params, features, mask).mean)

  slope = jax.jit(jax.grad(total))
  gradient = slope(params, spoilt)
  tiny.assert_close(gradient, slope(params, features), 1e-12)
  assert any(np.any(x != 0) for x in jax.tree.leaves(gradient))


def ring() -> buffer_lib.Buffer:
  """Of three environments, an episode after another; the newest 30 rows."""
  env = envs.make('point_direc')
  policy = policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Deterministic(0 * obs),
    noise=functools.partial(distributions.normal_noise, action_size=2),
  )
  trajectory, _ = real.rollout(
    env,
    policy,
    (),
    jax.random.PRNGKey(5),
    num_envs=3,
    horizon=12,
    time_limit=5,
    random_actions=True,
  )
  rows, _, _ = real.to_transitions(trajectory, jnp.int32(0))
  buffer = buffer_lib.init_transitions(30, 2, 2)
  for part in range(2):
    half = jax.tree.map(lambda x, part=part: x[18 * part :][:18], rows)
    buffer = buffer_lib.add(buffer, half)
  return buffer


class Holder:
  """A state, as far as data are drawn from it."""

  def __init__(self, buffer: buffer_lib.Buffer) -> None:
    self.buffer = buffer
    self.moments = ()


@pytest.mark.slow
def test_contexts_are_the_transitions_before_and_of_the_same_episode():
  """Walked back through the ring, o' included."""
  buffer = ring()
  config = make_config(**{'learn.batch_size': 30, 'learn.num_updates': 2})
  key = jax.random.PRNGKey(0)
  batch, enough = batches.sample(
    Holder(buffer), key, section=config.learn, length=LENGTH
  )
  assert enough
  slots = batches.spread(key, buffer.size, (2, 30))
  features, mask = history.transitions(batch.inputs)
  assert features.shape == (2, 30, LENGTH, 7)
  data = jax.tree.map(np.asarray, buffer.data)
  ages = set()
  for g, b in np.ndindex(2, 30):
    slot = int(slots[g, b])
    places = reference_history.windows(data, slot, LENGTH, 30)
    np.testing.assert_array_equal(mask[g, b], [p is not None for p in places])
    np.testing.assert_array_equal(batch.inputs.obs[g, b], data.obs[slot])
    np.testing.assert_array_equal(batch.next_inputs[g, b], data.next_obs[slot])
    np.testing.assert_array_equal(batch.reward[g, b], data.reward[slot])
    ages.add(int(mask[g, b].sum()))
    for n, p in enumerate(places):
      if p is not None:
        assert data.episode[p] == data.episode[slot]
        expected = [data.obs[p], data.action[p], [data.reward[p]]]
        expected = np.concatenate([*expected, data.next_obs[p]])
        np.testing.assert_array_equal(features[g, b, n], expected)
  assert ages == {0, 1, 2, 3}


@pytest.mark.parametrize('size', [12, 13, 29, 600])
def test_minibatches_are_spread_evenly_over_the_data(size):
  """The b-th row is of the b-th share; all rows of it are drawn."""
  shape = (200, 12)
  slots = batches.spread(jax.random.PRNGKey(0), jnp.int32(size), shape)
  shares = np.array_split(np.arange(size), 12)
  for b, share in enumerate(shares):
    drawn = set(np.asarray(slots[:, b]).tolist())
    assert drawn <= set(share.tolist())
    if size < 600:
      assert drawn == set(share.tolist())
  # Of 12 episodes as long as each other, one row each.
  if size == 600:
    episodes = np.sort(np.asarray(slots) // 50, -1)
    np.testing.assert_array_equal(episodes, np.tile(np.arange(12), (200, 1)))


class World:
  """What networks need to know."""

  observation_size, action_size = SIZES.obs, SIZES.action


@pytest.mark.parametrize('kl_weight', [0.0, 0.7])
def test_the_encoder_learns_by_the_critics_and_the_divergence(x64, kl_weight):
  """Not by the policy's loss, and not through the targets.

  The first moments of Adam hold a tenth of the first gradient. A termination
  ends what is ahead, a time limit does not.
  """
  config = make_config(
    **{'context.kl_weight': kl_weight, 'temperature.initial': 0.3}
  )
  hyper = base.hyper(config)
  _, networks = networks_lib.make(World(), config)
  init = functools.partial(learner_lib.init, networks)
  learner = jax.jit(functools.partial(init, observation_size=SIZES.obs))(
    jax.random.PRNGKey(3), hyper
  )
  learner = learner._replace(
    encoder=jax.tree.map(lambda x: x + 0.1, learner.encoder),
    sac=learner.sac._replace(
      target=jax.tree.map(lambda x: x + 0.1, learner.sac.target)
    ),
  )
  rows = reference_q.batch()
  count, latent_size = SIZES.rows, config.context.latent_size
  rng = np.random.default_rng(2)
  mask = draw_contexts()[1][::-1].copy()
  past = [
    rng.normal(size=(count, LENGTH, SIZES.obs)),
    rng.normal(size=(count, LENGTH, SIZES.action)),
    rng.normal(size=(count, LENGTH)),
  ]
  for x in (*past, mask):
    x[1] = x[0]
  seen = history.Seen(rows.obs, history.Window(*map(jnp.asarray, past), mask))
  later = np.concatenate([past[0][:, 1:], rows.obs[:, None]], 1)
  features = np.concatenate([*past[:2], past[2][..., None], later], -1)

  key = jax.random.PRNGKey(4)
  noise_key, sac_key = jax.random.split(key)
  eps = np.asarray(jax.random.normal(noise_key, (count, latent_size)))
  next_noise = networks.sac.noise(jax.random.split(sac_key)[1], (count,))

  def infer(params: Any) -> tuple[Any, Any]:
    mean, variance = encoder_by_hand(params, features, mask)
    kl = 0.5 * (mean**2 + variance - 1 - np.log(variance))
    return mean + np.sqrt(variance) * eps, np.mean(kl.sum(-1))

  def told(obs: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.concatenate([obs, z], -1)

  z, kl = infer(learner.encoder)
  act = test_sac.policy_by_hand(learner.sac.policy)
  next_seen = told(rows.next_obs, z)
  action, log_prob = act(next_seen, next_noise)
  ahead = reference_q.qs(learner.sac.target, next_seen, action).min(-1)
  ahead = hyper['learn.discount'] * (ahead - 0.3 * log_prob)
  y = rows.reward + np.where(rows.terminated > 0, 0, ahead)
  assert rows.terminated[0] and rows.truncated[1] and abs(y[0] - y[1]) > 0.01

  def critic_loss(critic: Any, z: Any) -> Any:
    q = reference_q.qs(critic, told(rows.obs, z), rows.action)
    return 0.5 * np.mean(np.sum((q - y[:, None]) ** 2, -1))

  def encoder_loss(params: Any) -> Any:
    z, kl = infer(params)
    return critic_loss(learner.sac.critic, z) + kl_weight * kl

  batch = sac.Batch(
    seen, rows.action, rows.reward, rows.next_obs, rows.terminated
  )
  update = functools.partial(
    learner_lib.update, networks=networks, learn_temperature=True
  )
  after, metrics, finite = jax.jit(update)(learner, hyper, batch, key)
  assert finite
  loss = critic_loss(learner.sac.critic, z)
  np.testing.assert_allclose(metrics['critic/loss'], loss, rtol=1e-6)
  np.testing.assert_allclose(metrics['encoder/kl'], kl, rtol=1e-6)

  def first_gradient(state: Any) -> Any:
    return jax.tree.map(lambda x: 10 * x, state[0].mu)

  gradient = reference_q.gradient(encoder_loss, learner.encoder)
  tiny.assert_close(first_gradient(after.optimizer), gradient, 1e-6)
  critic = reference_q.gradient(
    lambda params: critic_loss(params, z), learner.sac.critic
  )
  tiny.assert_close(first_gradient(after.sac.optimizers.critic), critic, 1e-6)


def test_the_policy_remembers_the_last_transitions_of_its_episode():
  """It acts on z of them: of noise that is kept, greedily of none."""
  env, config = envs.make('point_direc'), make_config()
  policy, networks = networks_lib.make(env, config)
  params = jax.jit(policy.init)(jax.random.PRNGKey(0))
  carry = first = policy.start(params, jax.random.PRNGKey(1), (), 4)
  steps, keys = [], jax.random.split(jax.random.PRNGKey(2), 5)
  obs, observe = jnp.ones((4, 2)), jax.jit(policy.observe)
  for key in keys:
    draw = jax.random.normal(key, (4, 7))
    steps.append(jnp.concatenate([obs, draw[:, 2:]], -1))
    action, reward, next_obs = draw[:, 2:4], draw[:, 4], draw[:, 5:]
    step = policies.Experience(obs, action, reward, next_obs, 0 * reward)
    carry, obs = observe(params, carry, step), next_obs
  np.testing.assert_array_equal(carry.noise, first.noise)
  newest = jnp.stack(steps[-LENGTH:], 1)
  found = networks.encoder.apply(
    params.encoder, newest[:, ::-1], jnp.ones((4, LENGTH))
  )
  noise = policy.noise(jax.random.PRNGKey(3), (4,))
  for given, z in ((None, found.mean), (noise, found.sample(carry.noise))):
    dist = networks.sac.dist(params.policy, jnp.concatenate([obs, z], -1))
    expected = policies.take(dist, given)
    kept, action = policy.act(params, carry, obs, given)
    assert kept is carry
    np.testing.assert_allclose(action.env, expected.env, rtol=1e-4, atol=1e-6)
  dist = policy.distribution(params, carry, obs)
  np.testing.assert_allclose(
    dist.log_prob(action.raw), action.log_prob, rtol=1e-3, atol=1e-5
  )


def test_an_episode_begins_with_nothing_but_a_guess():
  env, config = envs.make('point_direc'), make_config()
  policy, _ = networks_lib.make(env, config)
  params = jax.jit(policy.init)(jax.random.PRNGKey(0))
  rollout = functools.partial(
    real.rollout, env, policy, params, num_envs=2, time_limit=4
  )
  rollout = jax.jit(functools.partial(rollout, horizon=3))
  _, third = rollout(jax.random.PRNGKey(1))
  _, sixth = rollout(jax.random.PRNGKey(1), start=third)
  assert third.carry.window.mask.tolist() == [[1, 1, 1]] * 2
  assert sixth.carry.window.mask.tolist() == [[0, 1, 1]] * 2
  assert np.all(sixth.carry.noise != third.carry.noise)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'context.length': 11}, r'context.length=11: must be <= 10, collect.epis'),
    ({'context.length': 0}, r'context.length=0: must be'),
    ({'context.kl_weight': -1.0}, r'context.kl_weight=-1.0: must be'),
    (
      {'context.length': 9, 'collect.buffer_capacity': 9},
      r'collect.buffer_capacity=9: must be >= 10, \(context',
    ),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(values, message):
  with pytest.raises(shared.ConfigError, match=message):
    validation.validate(make_config(**values), env_max_episode_steps=60)


def test_a_world_without_tasks_is_refused():
  with pytest.raises(envs.TaskError, match='has no task parameters: must be a'):
    pearl.make(envs.make('point'), make_config(**{'env.name': 'point'}))


@pytest.mark.slow
def test_it_finds_out_what_is_hidden():
  """An agent without a memory gets 0; three seeds had 21 to 37."""
  config = learning.preset('pearl/point_direc')
  found = learning.evaluated(config, config.run.num_iterations)
  print(f'pearl: {found:.1f}')
  assert found > 15
