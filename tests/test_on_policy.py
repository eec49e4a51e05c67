"""What PPO and TRPO are made of, and that they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import minibatches
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.ppo import algorithm as ppo_algorithm
from mbmpo_jax.envs import spaces
from mbmpo_jax.objectives import ppo
from mbmpo_jax.objectives import returns
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import categorical
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import gaussian
from mbmpo_jax.policies import normalized
from mbmpo_jax.rollouts import real
from tests import learning
from tests import tiny

_T, _N, _A = 5, 3, 2


def random(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def make_trajectory(mask=None) -> types.Trajectory:
  zeros = np.zeros((_T, _N))
  return types.Trajectory(
    obs=random((_T, _N, 4), 1),
    action=random((_T, _N, _A), 2),
    env_action=random((_T, _N, _A), 2),
    log_prob=random((_T, _N), 3) - 2,
    reward=random((_T, _N), 4),
    next_obs=random((_T, _N, 4), 5),
    terminated=zeros,
    mask=np.ones((_T, _N)) if mask is None else mask,
  )


def test_clipped_surrogate_and_its_gradient(x64):
  """Against NumPy; the gradient in the means, by hand."""
  mask = np.ones((_T, _N))
  mask[3:, 1] = 0
  trajectory = make_trajectory(mask)
  trajectory.reward[4, 1] = np.nan  # of a masked step
  mean, log_std = random((_T, _N, _A), 6) / 3, np.full((1, 1, _A), -0.3)
  advantages, eps = random((_T, _N), 7), 0.3

  def surrogate(mean):
    return ppo.clipped_surrogate(
      distributions.Gaussian(mean, log_std),
      jax.tree.map(jnp.asarray, trajectory),
      jnp.asarray(advantages),
      clip_range=eps,
    )

  z = (trajectory.action - mean) / np.exp(log_std)
  log_prob = np.sum(-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi), -1)
  ratio = np.exp(log_prob - trajectory.log_prob)
  clipped = np.clip(ratio, 1 - eps, 1 + eps)
  terms = np.minimum(ratio * advantages, clipped * advantages)
  found = surrogate(jnp.asarray(mean))
  np.testing.assert_allclose(
    found.surrogate, np.sum(terms * mask) / mask.sum(), rtol=1e-12
  )
  beyond = (ratio < 1 - eps) | (ratio > 1 + eps)
  assert 0 < found.clip_fraction < 1
  np.testing.assert_allclose(
    found.clip_fraction, np.sum(beyond * mask) / mask.sum()
  )
  # Where the clipped term is the smaller, nothing flows.
  flows = ratio * advantages <= clipped * advantages
  weight = flows * ratio * advantages * mask / mask.sum()
  expected = weight[..., None] * z / np.exp(log_std)
  gradient = jax.grad(lambda m: surrogate(m).surrogate)(jnp.asarray(mean))
  np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)


def test_value_loss_and_its_gradient(x64):
  mask = np.ones((_T, _N))
  mask[2, 0] = 0
  values, targets = random((_T, _N), 1), random((_T, _N), 2)
  loss, gradient = jax.value_and_grad(ppo.value_loss)(
    jnp.asarray(values), jnp.asarray(targets), jnp.asarray(mask)
  )
  error = (values - targets) * mask
  np.testing.assert_allclose(loss, np.sum(error**2) / 2 / mask.sum())
  np.testing.assert_allclose(gradient, error / mask.sum(), atol=1e-15)


def test_a_time_limit_bootstraps_and_a_termination_does_not(x64):
  """Against a loop over steps, backwards; episodes end in the middle."""
  rewards, values = random((6, 2), 1), random((6, 2), 2)
  next_values = random((6, 2), 3)
  terminated, truncated = np.zeros((6, 2)), np.zeros((6, 2))
  terminated[2, 0] = truncated[2, 1] = 1
  discount, lam = 0.9, 0.8
  expected = np.zeros((6, 2))
  for n in range(2):
    later = 0.0
    for t in reversed(range(6)):
      beyond = 0.0 if terminated[t, n] else next_values[t, n]
      if terminated[t, n] or truncated[t, n]:
        later = 0.0
      delta = rewards[t, n] + discount * beyond - values[t, n]
      later = expected[t, n] = delta + discount * lam * later
  found = returns.gae(
    *(jnp.asarray(x) for x in (rewards, values, np.ones((6, 2)), terminated)),
    discount=discount,
    gae_lambda=lam,
    next_values=jnp.asarray(next_values),
    ended=jnp.maximum(terminated, truncated),
  )
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_trajectory_is_judged_as_it_was_played(x64):
  """A rollout of an environment that terminates, and is cut by time.

  V(s) = 3 s + 1, so that the observation before a reset and the one after it
  have values far apart.
  """
  env = tiny.Countdown()
  policy = policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Gaussian(0 * obs, 0 * obs),
    noise=functools.partial(distributions.normal_noise, action_size=1),
  )
  trajectory, _ = jax.jit(
    functools.partial(
      real.rollout, env, policy, (), num_envs=4, horizon=9, time_limit=3
    )
  )(jax.random.PRNGKey(1))
  # A step whose reward was no number.
  mask = np.asarray(trajectory.mask).copy()
  mask[6, 2] = 0
  trajectory = trajectory._replace(mask=jnp.asarray(mask))
  discount, lam = 0.9, 0.8
  batch, metrics = on_policy.judge(
    lambda params, obs: params * obs[..., 0] + 1,
    3.0,
    trajectory,
    {'advantage.discount': discount, 'advantage.gae_lambda': lam},
  )

  played = jax.tree.map(np.asarray, trajectory)
  values, beyond = (3 * x[..., 0] + 1 for x in (played.obs, played.next_obs))
  terminated, truncated = played.terminated, played.truncated
  # Those that began at 0 are cut before they would terminate.
  assert terminated.sum() >= 2 and truncated.sum() >= 1
  advantages = np.zeros((9, 4))
  for n in range(4):
    later = 0.0
    for t in reversed(range(9)):
      ends = terminated[t, n] or truncated[t, n] or not mask[t, n]
      after = 0.0 if terminated[t, n] else beyond[t, n]
      delta = played.reward[t, n] + discount * after - values[t, n]
      advantages[t, n] = delta + discount * lam * (0.0 if ends else later)
      later = advantages[t, n]
  live = mask > 0
  targets = (advantages + values)[live]
  np.testing.assert_allclose(batch.targets[live], targets, rtol=1e-6)
  kept = advantages[live]
  np.testing.assert_allclose(
    batch.advantages[live], (kept - kept.mean()) / kept.std(), rtol=1e-5
  )
  error = np.mean((values[live] - targets) ** 2)
  np.testing.assert_allclose(metrics['value/loss'], error / 2, rtol=1e-6)
  np.testing.assert_allclose(
    metrics['value/explained'], 1 - error / targets.var(), rtol=1e-5
  )


def test_the_loss_of_ppo_is_its_three_parts(x64):
  """Signs and weights, against NumPy, of a policy that has moved."""
  env, config = envs.make('point'), settings('ppo')
  made = on_policy.parts(env, config, None)
  policy, value = (
    jax.tree.map(
      lambda x: jnp.asarray(x, float) + 0.1, make(jax.random.PRNGKey(seed))
    )
    for seed, make in enumerate((made.policy.init, made.init_value))
  )
  trajectory = jax.tree.map(
    jnp.asarray,
    make_trajectory()._replace(
      obs=random((_T, _N, 2), 1), next_obs=random((_T, _N, 2), 5)
    ),
  )
  advantages, targets = random((_T, _N), 8), random((_T, _N), 9)
  batch = on_policy.Batch(
    trajectory, jnp.asarray(advantages), jnp.asarray(targets)
  )
  hyper = {
    'learn.clip_range': 0.2,
    'learn.value_coef': 0.7,
    'learn.entropy_coef': 0.3,
  }
  found = ppo_algorithm.loss((policy, value), batch, made=made, hyper=hyper)

  dist = made.policy.distribution(policy, (), trajectory.obs)
  mean, log_std = np.asarray(dist.mode()), np.asarray(policy['log_std'])
  mean, log_std = mean.reshape(_T, _N, _A), log_std.reshape(1, 1, _A)
  z = (np.asarray(trajectory.action) - mean) / np.exp(log_std)
  log_prob = np.sum(-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi), -1)
  ratio = np.exp(log_prob - trajectory.log_prob)
  clipped = np.clip(ratio, 0.8, 1.2) * advantages
  surrogate = np.mean(np.minimum(ratio * advantages, clipped))
  values = np.asarray(made.value(value, trajectory.obs))
  errors = np.mean((values - targets) ** 2) / 2
  entropy = np.sum(log_std + 0.5 * np.log(2 * np.pi * np.e), -1).mean()
  np.testing.assert_allclose(
    found, -surrogate + 0.7 * errors - 0.3 * entropy, rtol=1e-6
  )


def test_running_moments_are_those_of_all_rows(x64):
  rows = 1e3 + random((7, 4, 3))
  mask = np.ones((7, 4))
  mask[1:3, 2] = 0
  moments = normalized.start(3)
  for part in (slice(0, 2), slice(2, 3), slice(3, 7)):
    moments = normalized.update(
      moments, jnp.asarray(rows[part]), jnp.asarray(mask[part])
    )
  seen = rows[mask > 0]
  found = normalized.normalize(moments, jnp.asarray(rows[0]))
  np.testing.assert_allclose(
    found, (rows[0] - seen.mean(0)) / seen.std(0), rtol=1e-9
  )
  untouched = normalized.normalize(normalized.start(3), jnp.ones((2, 3)))
  np.testing.assert_array_equal(untouched, np.ones((2, 3)))


def test_minibatches_hold_every_step_once():
  count = _T * _N
  steps = jnp.arange(float(count)).reshape(_T, _N)
  trajectory = make_trajectory()._replace(obs=jnp.tile(steps[..., None], 4))
  parts = minibatches.shuffled(
    on_policy.Batch(trajectory, steps, steps), jax.random.PRNGKey(0), num=3
  )
  assert parts.advantages.shape == (3, 1, 5)
  assert sorted(parts.advantages.reshape(-1).tolist()) == list(range(count))
  np.testing.assert_array_equal(parts.trajectory.obs[..., 0], parts.advantages)


def settings(name: str, **overrides) -> config_lib.Experiment:
  """Small networks on `point`."""
  values = {
    'env.name': 'point',
    'collect.num_envs': 20,
    'collect.steps_per_env': 30,
    'collect.episode_length': 30,
    'policy.hidden_sizes': (16,),
    'value.hidden_sizes': (16,),
    'learn.num_minibatches': 4,
    'learn.learning_rate': 3e-3,
    'value.num_minibatches': 4,
    'value.learning_rate': 3e-3,
    'trust_region.damping': 0.1,
    'trust_region.max_kl': 0.02,
  }
  config = algorithms.config(name)()
  known = config_lib.flatten(config)
  return config_lib.replaced(
    config, {n: v for n, v in (values | overrides).items() if n in known}
  )


@pytest.mark.parametrize('normalize', [False, True])
def test_the_kl_of_a_trust_region_step_is_within_its_bound(normalize):
  """Measured afresh in NumPy, of the policies in the states, on its data.

  Of normalised observations in the second iteration, whose units are those of
  the first: what it adds to the moments is for the next.
  """
  config = settings('trpo', **{'collect.normalize_observations': normalize})
  env = envs.make('point')
  algorithm = algorithms.make('trpo', env, config)
  before = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  update = jax.jit(algorithm.update)
  if normalize:
    before, _ = update(before)
  after, metrics = update(before)
  trajectory, _ = real.rollout(
    env,
    algorithm.policy,
    algorithm.policy_params(before),
    jax.random.split(before.counters.key, 4)[1],
    num_envs=20,
    horizon=30,
    start=before.running,
    time_limit=30,
  )
  obs = np.asarray(trajectory.obs, np.float64).reshape(-1, 2)
  if normalize:
    moments = jax.tree.map(np.float64, before.moments)
    obs = (obs - moments.mean) / np.sqrt(moments.squares / moments.total)

  def gaussian_of(theta):
    hidden, last = theta['layers']
    h = np.tanh(obs @ hidden['w'] + hidden['b'][None])
    return h @ last['w'] + last['b'][None], np.asarray(theta['log_std'])[None]

  (mean, log_std), (new_mean, new_log_std) = (
    gaussian_of(jax.tree.map(np.float64, s.policy)) for s in (before, after)
  )
  kl = (
    new_log_std
    - log_std
    + (np.exp(2 * log_std) + (mean - new_mean) ** 2)
    / (2 * np.exp(2 * new_log_std))
    - 0.5
  )
  measured = np.mean(np.sum(kl, -1))
  assert metrics['policy/accept_rate'] == 1
  assert 0.005 < measured <= 0.02
  np.testing.assert_allclose(metrics['policy/kl'], measured, rtol=1e-3)


def learn(name: str, *, iterations: int) -> float:
  """The return of the last iterations."""
  config = settings(name)
  algorithm = algorithms.make(name, envs.make('point'), config)

  def step(state, _):
    state, metrics = algorithm.update(state)
    return state, metrics['real/return']

  @jax.jit
  def run(key):
    state = algorithm.init(key, base.hyper(config))
    return jax.lax.scan(step, state, length=iterations)[1]

  return float(jnp.mean(run(jax.random.PRNGKey(0))[-5:]))


@pytest.mark.parametrize(
  'name', ['ppo', pytest.param('trpo', marks=pytest.mark.slow)]
)
def test_learns_the_point_and_flees_with_the_advantage_reversed(
  name, monkeypatch
):
  """Random actions get -82, the optimum -14.3."""
  assert learn(name, iterations=60) > -32
  standardize = returns.standardize
  monkeypatch.setattr(
    returns, 'standardize', lambda a, mask: -standardize(a, mask)
  )
  assert learn(name, iterations=60) < -100


class Switch(envs.Environment):
  """Pays for the choice that the observation names."""

  max_episode_steps, dt = 10, 1.0
  observation_size, action_size = 2, 2
  action_space = spaces.Discrete(2)
  can_terminate = False

  def initial_state(self, rng):
    return jax.random.split(rng)[0]

  def advance(self, pipeline_state, action):
    return jax.random.split(pipeline_state)[0]

  def observe(self, pipeline_state):
    return jax.nn.one_hot(pipeline_state[0] % 2, 2)

  def reward(self, obs, action, next_obs):
    return jnp.sum(obs * action, -1)


@pytest.mark.parametrize(
  'name', ['ppo', pytest.param('trpo', marks=pytest.mark.slow)]
)
def test_learns_a_world_of_choices(name):
  """At random it gets 5 of 10."""
  config = settings(
    name,
    **{
      'collect.steps_per_env': 10,
      'collect.episode_length': 10,
      'advantage.discount': 0.0,
    },
  )
  algorithm = algorithms.make(name, Switch(), config)
  update = jax.jit(algorithm.update)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  for _ in range(30):
    state, metrics = update(state)
  assert metrics['real/return'] > 8


def test_environments_go_on_between_iterations():
  """Episodes of 30 steps, seen in three iterations of 10."""
  config = settings('ppo', **{'collect.steps_per_env': 10})
  algorithm = algorithms.make('ppo', envs.make('point'), config)
  update = jax.jit(algorithm.update)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  returned = []
  for _ in range(4):
    state, metrics = update(state)
    returned.append(float(metrics['real/return']))
  assert np.isnan(returned).tolist() == [True, True, False, True]
  assert int(state.counters.episodes) == 2 * 20


def test_steps_that_are_not_finite_teach_nothing(x64):
  config = settings('ppo')
  algorithm = algorithms.make('ppo', envs.make('point'), config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  env_state = state.running.env
  spoilt = state._replace(
    running=state.running._replace(
      env=env_state.replace(
        pipeline_state=jax.tree.map(
          lambda x: x.at[0].set(jnp.nan), env_state.pipeline_state
        ),
        obs=env_state.obs.at[0].set(jnp.nan),
      )
    )
  )
  after, metrics = jax.jit(algorithm.update)(spoilt)
  assert metrics['nonfinite/transitions'] == 30
  assert metrics[base.STUCK] == 0
  learned = (after.policy, after.value, after.optimizer, after.moments)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(learned))
  assert np.any(
    after.policy['layers'][0]['w'] != spoilt.policy['layers'][0]['w']
  )


def test_the_categorical_policy_is_a_softmax(x64):
  policy = categorical.make(3, 4, (5,))
  params = policy.init(jax.random.PRNGKey(0))
  obs = jnp.asarray(random((6, 3)))
  dist = policy.distribution(params, (), obs)
  layers = params['params']['MLP_0']
  hidden = np.tanh(
    obs @ layers['Dense_0']['kernel'] + layers['Dense_0']['bias'][None]
  )
  logits = (
    hidden @ layers['Dense_1']['kernel'] + layers['Dense_1']['bias'][None]
  )
  p = np.exp(logits) / np.sum(np.exp(logits), -1, keepdims=True)
  choice = jax.nn.one_hot(jnp.arange(6) % 4, 4)
  np.testing.assert_allclose(
    dist.log_prob(choice), np.log(np.sum(p * choice, -1)), rtol=1e-10
  )


@pytest.mark.parametrize(
  ('name', 'field', 'value', 'line'),
  [
    (
      'ppo',
      'learn.num_minibatches',
      7,
      r'learn\.num_minibatches=7: must divide 600, .*',
    ),
    (
      'trpo',
      'value.num_minibatches',
      7,
      r'value\.num_minibatches=7: must divide 600, .*',
    ),
  ],
)
def test_minibatches_that_do_not_divide_the_data(name, field, value, line):
  with pytest.raises(config_lib.ConfigError, match=line):
    algorithms.make(name, envs.make('point'), settings(name, **{field: value}))


def remembering(hands_on: bool) -> policies.Policy:
  """A policy whose carry counts its steps."""
  plain = gaussian.make(2, 2, config_lib.GaussianPolicy(hidden_sizes=(4,)))

  def act(params, carry, obs, noise):
    _, action = plain.act(params, (), obs, noise)
    extras = carry if hands_on else ()
    return carry + 1, action._replace(extras=extras)

  return plain._replace(
    start=lambda params, key, context, num: jnp.zeros(num), act=act
  )


def test_a_memory_must_be_handed_on():
  """Steps are judged again out of order: nothing is replayed."""
  make = functools.partial(
    algorithms.make, 'ppo', envs.make('point'), settings('ppo')
  )
  with pytest.raises(config_lib.ConfigError, match='policy: has a memory'):
    make(policy=remembering(hands_on=False))
  assert make(policy=remembering(hands_on=True)).policy.over is not None


def test_data_from_outside_teach_nothing():
  """They are counted."""
  config, env = settings('ppo'), envs.make('point')
  algorithm = algorithms.make('ppo', env, config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  trajectory, _ = real.rollout(
    env,
    algorithm.policy,
    algorithm.policy_params(state),
    jax.random.PRNGKey(1),
    num_envs=2,
    horizon=3,
  )
  after = jax.jit(algorithm.add)(state, trajectory)
  assert after.counters.env_steps == 6
  same = after._replace(counters=state.counters)
  jax.tree.map(np.testing.assert_array_equal, same, state)
  assert algorithm.adapt is None


def test_a_long_gradient_is_shortened():
  """Adam's first moment is a tenth of what it is given."""
  config = settings('ppo', **{'learn.max_grad_norm': 0.5})
  adam = minibatches.optimizer(config.learn, 1e-3)
  params = jnp.zeros(2)
  for gradient, given in (([3.0, 4.0], [0.3, 0.4]), ([0.1, 0.2], [0.1, 0.2])):
    _, state = adam.update(jnp.asarray(gradient), adam.init(params), params)
    moments = optax.tree.get(state, 'mu')
    np.testing.assert_allclose(moments, 0.1 * np.asarray(given), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1, 2])
@pytest.mark.parametrize('name', ['ppo/point', 'trpo/point'])
def test_the_point_preset_comes_within_a_tenth_of_the_optimum(name, seed):
  assert learning.share_of_optimum_on_point(name, seed) >= 0.9
