"""M3PO: imagined data, minibatches, epochs in programs, and that it learns."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as shared
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms.m3po import algorithm as m3po
from mbmpo_jax.algorithms.m3po import batches
from mbmpo_jax.algorithms.m3po import config as m3po_config
from mbmpo_jax.algorithms.m3po import imagination
from mbmpo_jax.algorithms.m3po import networks as networks_lib
from mbmpo_jax.algorithms.m3po import rows as rows_lib
from mbmpo_jax.algorithms.sac import learner as sac_learner
from mbmpo_jax.models import mixture
from mbmpo_jax.models import recurrent
from mbmpo_jax.models import statistics
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import normalized
from mbmpo_jax.policies import normalized_inputs
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.launch import tiny as tiny_lib
from tests import learning
from tests import reference_history as reference

LENGTH = 3


def tiny_config(**values) -> m3po_config.Config:
  """Two members, L = 3, episodes of 10 steps on `point_direc`."""
  config = tiny_lib.shrink(m3po_config.Config())
  return shared.replaced(
    config,
    {
      'env.name': 'point_direc',
      'collect.episode_length': 10,
      'model.num_models': 2,
      **values,
    },
  )


def real_data(env: envs.Environment, policy: policies.Policy, params):
  @jax.jit
  def collect(params, key):
    trajectory, _ = real.rollout(
      env,
      policy,
      params,
      key,
      num_envs=3,
      horizon=12,
      time_limit=5,
      random_actions=True,
    )
    rows, _, _ = real.to_transitions(trajectory, jnp.int32(0))
    return buffer_lib.add(buffer_lib.init_transitions(50, 2, 2), rows)

  return collect(params, jax.random.PRNGKey(5))


def scaled(obs: np.ndarray, features: np.ndarray, mask: np.ndarray) -> Any:
  """What the policy reads under `MOMENTS`; actions and padding are as is."""
  o, r = MOMENTS.obs, MOMENTS.reward
  std, paid = (np.sqrt(np.asarray(m.squares / m.total)) for m in (o, r))
  features = features.copy()
  features[:, :2] = (features[:, :2] - np.asarray(o.mean)) / std
  features[:, 4:] = (features[:, 4:] - np.asarray(r.mean)) / paid
  return (obs - np.asarray(o.mean)) / std, features * mask[:, None]


# Of ten transitions; numbers so large that nothing is clipped.
MOMENTS = normalized_inputs.InputMoments(
  normalized.Moments(
    jnp.asarray(10.0), jnp.asarray([0.5, -0.3]), jnp.asarray([40.0, 90.0])
  ),
  normalized.Moments(jnp.asarray(10.0), jnp.ones(1) / 3, jnp.full(1, 20.0)),
)


@pytest.mark.parametrize('normalize', [False, True])
def test_branched_rollouts_replayed_step_by_step(normalize, x64):
  """By one member: histories, actions, rewards and next states.

  The policy may read scaled inputs; rows and the model's inputs are as is.
  """
  env = envs.make('point_direc')
  config = tiny_config(**{'collect.normalize_observations': normalize})
  plain = networks_lib.make_policy(env, config)
  params = jax.jit(plain.init)(jax.random.PRNGKey(0))
  policy, acting = inputs.acting(plain, env, config.collect)
  dynamics = recurrent.make(env, config.model, length=LENGTH, units=4)
  members = jax.jit(dynamics.init)(jax.random.PRNGKey(1))
  buffer = real_data(env, plain, params)
  key, horizon, count = jax.random.PRNGKey(2), 4, 6

  @jax.jit
  def imagine(params, members, buffer, key):
    model = dynamics.ready(members, statistics.identity(4, 2, reward=True))
    return imagination.branched(
      env,
      policy,
      acting(params, MOMENTS),
      dynamics,
      jax.tree.map(lambda x: x[0], model),
      buffer,
      key,
      num_rollouts=count,
      horizon=horizon,
      length=LENGTH,
    )

  found = imagine(params, members, buffer, key)
  assert np.all(found.live)
  rows = jax.tree.map(
    lambda x: np.asarray(x).reshape(horizon, count, *x.shape[1:]), found.rows
  )

  # The keys of `imagined.rollout`.
  slots_key, rollout_key = jax.random.split(key)
  noise_key, step_key = jax.random.split(rollout_key)
  with imagination.imagined.backend.whole_blocks():
    noise = np.asarray(policy.noise(noise_key, (horizon, count)))
  slots = jax.random.randint(slots_key, (count,), 0, int(buffer.size))
  model_noise = [
    np.asarray(jax.random.normal(jax.random.split(k)[0], (count, 3)))
    for k in jax.random.split(step_key, horizon)
  ]
  own = jax.tree.map(lambda x: x[0], members)['params']
  data = jax.tree.map(np.asarray, buffer.data)
  ages = set()
  for n in range(count):
    slot = int(slots[n])
    places = reference.windows(data, slot, LENGTH, int(buffer.size))
    past = [
      np.concatenate([data.obs[p], data.action[p], data.reward[p : p + 1]])
      for p in places
      if p is not None
    ]
    ages.add(len(past))
    obs = data.obs[slot]
    for t in range(horizon):
      past = past[-LENGTH:]
      pad = LENGTH - len(past)
      features = np.stack([np.zeros(5)] * pad + past)
      mask = np.array([0.0] * pad + [1.0] * len(past))
      seen = jax.tree.map(lambda x, t=t, n=n: x[t, n], rows.seen)
      np.testing.assert_allclose(seen.obs, obs, rtol=1e-7)
      np.testing.assert_array_equal(seen.window.mask, mask)
      np.testing.assert_allclose(
        np.concatenate(
          [seen.window.obs, seen.window.action, seen.window.reward[:, None]], -1
        ),
        features,
        rtol=1e-7,
        atol=1e-12,
      )
      read = scaled(obs, features, mask) if normalize else (obs, features)
      outputs = reference.network(params['params']['Network_0'], *read, mask)
      mean, std = reference.squashed(outputs, -5, 2)
      action = np.tanh(mean + std * noise[t, n])
      np.testing.assert_allclose(rows.action[t, n], action, rtol=1e-7)
      outputs = reference.network(
        own, np.concatenate([obs, action]), features, mask
      )
      mean, std = reference.bounded_gaussian(outputs, -5, 0.25)
      y = mean + std * model_noise[t][n]
      np.testing.assert_allclose(rows.reward[t, n], y[2], rtol=1e-7)
      np.testing.assert_allclose(rows.next_obs[t, n], obs + y[:2], rtol=1e-7)
      past.append(np.concatenate([obs, action, y[2:]]))
      obs = obs + y[:2]
  assert len(ages) > 1


def windows_of(key: jax.Array, masks: list[list[float]]) -> history.Window:
  """Random windows; what is masked is zero."""
  mask = jnp.asarray(masks)
  keys = jax.random.split(key, 3)
  wide = jax.random.normal(keys[0], (*mask.shape, 2)) * mask[..., None]
  acted = jax.random.uniform(keys[1], (*mask.shape, 2), minval=-1, maxval=1)
  return history.Window(
    wide,
    acted * mask[..., None],
    jax.random.normal(keys[2], mask.shape) * mask,
    mask,
  )


def test_an_update_has_the_targets_and_losses_of_numpy(x64):
  """Of networks that read the histories of s and of s', which differ.

  The first of the rows terminated.
  """
  env = envs.make('point_direc')
  config = tiny_config()
  policy = networks_lib.make_policy(env, config)
  networks = networks_lib.make(env, config, policy)
  hyper = {name: jnp.asarray(x) for name, x in base.hyper(config).items()}
  learner = sac_learner.init(networks, jax.random.PRNGKey(0), hyper)
  learner = learner._replace(
    policy=jax.tree.map(lambda x: x + 0.1, learner.policy),
    target=networks.init_critic(jax.random.PRNGKey(1)),
    log_temperature=jnp.log(0.3),
  )
  learner = jax.tree.map(
    lambda x: x.astype(float) if x.dtype == jnp.float32 else x, learner
  )
  keys = jax.random.split(jax.random.PRNGKey(2), 6)
  before = windows_of(keys[0], [[0, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 0]])
  after = windows_of(keys[1], [[0, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 1]])
  batch = sac_learner.Batch(
    inputs=history.Seen(jax.random.normal(keys[2], (4, 2)), before),
    action=jax.random.uniform(keys[3], (4, 2), minval=-1, maxval=1),
    reward=jax.random.normal(keys[4], (4,)),
    next_inputs=history.Seen(jax.random.normal(keys[5], (4, 2)), after),
    terminated=jnp.asarray([1.0, 0.0, 0.0, 0.0]),
  )
  key = jax.random.PRNGKey(3)
  found = jax.jit(
    functools.partial(
      sac_learner.update, networks=networks, learn_temperature=False
    )
  )(learner, hyper, batch, key)

  def features(seen: history.Seen, n: int) -> tuple[Any, Any, Any]:
    window = jax.tree.map(lambda x: np.asarray(x[n]), seen.window)
    steps = np.concatenate(
      [window.obs, window.action, window.reward[:, None]], -1
    )
    return np.asarray(seen.obs[n]), steps, window.mask

  def act(seen: history.Seen, noise: np.ndarray, n: int) -> tuple[Any, float]:
    net = learner.policy['params']['Network_0']
    mean, std = reference.squashed(
      reference.network(net, *features(seen, n)), -5, 2
    )
    raw = mean + std * noise[n]
    log_prob = -0.5 * noise[n] ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return np.tanh(raw), np.sum(log_prob - np.log(1 - np.tanh(raw) ** 2))

  def qs(params: Any, seen: history.Seen, action: Any, n: int) -> np.ndarray:
    obs, steps, mask = features(seen, n)
    x = np.concatenate([obs, action])
    nets = params['params']
    return np.array(
      [
        reference.network(nets[f'critic_{i}'], x, steps, mask)[0]
        for i in range(2)
      ]
    )

  key, next_key = jax.random.split(key)
  noises = [np.asarray(networks.noise(k, (4,))) for k in (key, next_key)]
  discount = float(hyper['learn.discount'])
  losses, values, gains = [], [], []
  for n in range(4):
    action, log_prob = act(batch.next_inputs, noises[1], n)
    value = qs(learner.target, batch.next_inputs, action, n).min()
    live = 1 - float(batch.terminated[n])
    y = float(batch.reward[n]) + discount * live * (value - 0.3 * log_prob)
    q = qs(learner.critic, batch.inputs, np.asarray(batch.action[n]), n)
    losses.append(0.5 * np.sum((q - y) ** 2))
    values.append(q)
    # The actor's loss is that of the critics after their step.
    action, log_prob = act(batch.inputs, noises[0], n)
    stepped = qs(found.learner.critic, batch.inputs, action, n).min()
    gains.append(0.3 * log_prob - stepped)
  for name, expected in (
    ('critic/loss', np.mean(losses)),
    ('critic/q', np.mean(values)),
    ('policy/loss', np.mean(gains)),
  ):
    np.testing.assert_allclose(
      found.metrics[name], expected, rtol=1e-6, err_msg=name
    )


def test_rows_survive_being_stored():
  env = envs.make('point_direc')
  policy = networks_lib.make_policy(env, tiny_config())
  params = jax.jit(policy.init)(jax.random.PRNGKey(0))
  buffer = real_data(env, policy, params)
  rows = jax.jit(functools.partial(rows_lib.real_rows, length=LENGTH))(
    buffer, jnp.arange(8)
  )
  flat = jax.jit(rows_lib.flatten)(rows)
  assert flat.shape == (8, rows_lib.row_size(env, LENGTH))
  assert flat.shape[1] == LENGTH * 6 + 2 * 2 + 2 + 2
  back = jax.jit(functools.partial(rows_lib.unflatten, env, LENGTH))(
    flat.reshape(2, 4, -1)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a.reshape(b.shape), b),
    back,
    rows,
  )
  batch = jax.jit(batches.to_batch)(rows)
  np.testing.assert_array_equal(
    batch.next_inputs.window.reward[:, -1], rows.reward
  )
  # The next history is what the buffer has before the next step.
  after = jax.jit(functools.partial(history.stored, length=LENGTH))(
    buffer, jnp.arange(1, 5)
  )
  np.testing.assert_array_equal(after.obs, batch.next_inputs.window.obs[:4])


def test_the_share_of_imagined_data_falls_in_a_line():
  config = tiny_config(
    **{
      'batches.kind': 'mixed',
      'batches.decay_steps': 100,
      'learn.batch_size': 20,
    }
  )
  hyper = base.hyper(config)
  shares = [
    float(batches.model_share(hyper, jnp.int32(steps), config.batches))
    for steps in (0, 50, 100, 1000)
  ]
  np.testing.assert_allclose(shares, [0.95, 0.475, 0, 0], atol=1e-6)
  env = envs.make('point_direc')
  policy = networks_lib.make_policy(env, config)
  buffer = real_data(env, policy, jax.jit(policy.init)(jax.random.PRNGKey(0)))
  ring = buffer_lib.init(30, jnp.zeros(rows_lib.row_size(env, LENGTH)))
  ring = buffer_lib.add(ring, jnp.full((30, ring.data.shape[1]), 7.0))
  key = jax.random.PRNGKey(0)
  sample = jax.jit(functools.partial(batches.sample, env, config))
  batch = sample(buffer, ring, jnp.float32(0.475), (), key)
  # 20 - round(9.5) = 10 of 20 are real.
  np.testing.assert_array_equal(
    np.all(batch.inputs.obs == 7, -1), np.tile(np.arange(20) >= 10, (2, 1))
  )
  pure = tiny_config()
  assert float(batches.model_share(hyper, jnp.int32(9), pure.batches)) == 1


@functools.cache
def run(num_iterations: int = 2, **values):
  """The state after some iterations, and their metrics."""
  values = {name.replace('__', '.'): v for name, v in values.items()}
  config = tiny_config(**values)
  algorithm = m3po.make(envs.make('point_direc'), config)
  phases = [
    (jax.jit(phase.function), phase.repeats)
    for phase in algorithm.phases.values()
  ]
  init = jax.jit(algorithm.init)
  state = init(jax.random.PRNGKey(0), base.hyper(config))
  rows = []
  for _ in range(num_iterations):
    row = {}
    for function, repeats in phases:
      for _ in range(repeats):
        state, metrics = function(state)
      row.update(metrics)
    rows.append(row)
  return state, rows


MIXED = {
  'collect__steps_per_env': 20,
  'collect__start_steps': 14,
  'batches__kind': 'mixed',
}


GROWING = {
  'model_rollouts__final_horizon': 3,
  'model_rollouts__growth_end': 30,
}


@pytest.mark.slow
@pytest.mark.parametrize(
  'values',
  [{'model_rollouts__kind': 'full'}, GROWING, {'collect__num_envs': 2}],
)
def test_no_variant_depends_on_the_chunk(values):
  values = {**MIXED, 'batches__kind': 'model', **values}
  short, _ = run(**values, run__chunk=4)
  long, _ = run(**values, run__chunk=20)
  jax.tree.map(np.testing.assert_array_equal, short, long)


@pytest.mark.slow
def test_results_do_not_depend_on_the_chunk():
  """To the bit; exploration ends within a program."""
  short, _ = run(**MIXED, run__chunk=4)
  long, rows = run(**MIXED, run__chunk=20)
  jax.tree.map(np.testing.assert_array_equal, short, long)
  # 6 rounds of the first iteration are left to learn in.
  assert [int(row['updates']) for row in rows] == [12, 40]
  assert [int(row['imagined_steps']) for row in rows] == [60, 200]
  assert int(long.counters.env_steps) == 40
  assert int(long.imagined.size) == 200


@pytest.mark.slow
@pytest.mark.parametrize(
  ('start_steps', 'imagined'), [(10, [100, 200]), (7, [200, 200])]
)
def test_full_rollouts_are_as_many_steps(start_steps, imagined):
  """10 of 10 steps in every tenth round: 10 a round, as if they branched.

  The first in the first round that learns, whenever that is.
  """
  state, rows = run(
    num_iterations=2,
    collect__steps_per_env=20,
    collect__start_steps=start_steps,
    model_rollouts__kind='full',
    run__chunk=20,
  )
  assert [int(row['imagined_steps']) for row in rows] == imagined
  assert int(rows[0]['updates']) == 2 * (20 - start_steps)
  assert int(rows[1]['updates']) == 40
  env = envs.make('point_direc')
  rows = rows_lib.unflatten(env, LENGTH, state.imagined.data[100:200])
  seen = rows.seen.window.mask.sum(-1).reshape(10, 10)
  np.testing.assert_array_equal(
    seen, np.tile(np.minimum(np.arange(10), LENGTH)[:, None], (1, 10))
  )


def test_full_rollouts_are_made_only_when_they_are_due():
  """In the compiled program, all loops over time are within that of 0 or 1."""
  config = tiny_config(**{'model_rollouts.kind': 'full'})
  env = envs.make('point_direc')
  state = jax.eval_shape(
    m3po.make(env, config).init, jax.random.PRNGKey(0), base.hyper(config)
  )
  acting, acting_params = inputs.acting(
    networks_lib.make_policy(env, config), env, config.collect
  )
  member = recurrent.make(
    env, config.model, length=LENGTH, units=config.history.units
  )
  imagine = imagination.make(
    env, acting, mixture.redrawn(member, config.model.num_imagining), config
  )

  def program(state, index, key):
    params = acting_params(state.learner.policy, state.moments)
    return imagine(
      params, state.model, state.buffer, state.imagined, index, key
    )

  compiled = jax.jit(program).lower(state, 0, jax.random.PRNGKey(0)).compile()
  whole = compiled.as_text()
  entry = whole[whole.index('\nENTRY ') :]
  assert entry.count(' while(') == 1 < whole.count(' while(')


@pytest.mark.slow
def test_full_rollouts_do_not_wait_after_steps_from_outside():
  """Whose number is no multiple of the period."""
  config = tiny_config(
    **{
      'collect.steps_per_env': 20,
      'collect.start_steps': 10,
      'model_rollouts.kind': 'full',
      'run.chunk': 20,
    }
  )
  env = envs.make('point_direc')
  algorithm = m3po.make(env, config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  policy = networks_lib.make_policy(env, config)
  trajectory, _ = real.rollout(
    env,
    policy,
    jax.jit(policy.init)(jax.random.PRNGKey(0)),
    jax.random.PRNGKey(1),
    num_envs=1,
    horizon=15,
    time_limit=10,
    random_actions=True,
  )
  state = algorithm.add(state, trajectory._replace(extras=()))
  for phase in algorithm.phases.values():
    state, metrics = jax.jit(phase.function)(state)
  # Updates of all 20 rounds; without data in D_model there are none.
  assert int(metrics['updates']) == 2 * 20


@pytest.mark.slow
def test_nothing_is_fitted_while_epochs_explore():
  """35 uniform steps: an epoch of 20, and three quarters of the next."""
  _, rows = run(
    num_iterations=2,
    collect__steps_per_env=20,
    collect__start_steps=35,
    run__chunk=20,
  )
  assert math.isnan(rows[0]['model/val_loss']) and rows[0]['updates'] == 0
  assert rows[0]['model/gradient_steps'] == 0
  assert rows[1]['model/gradient_steps'] > 0 and rows[1]['updates'] == 10
  assert math.isfinite(rows[1]['model/val_loss'])


def test_without_a_history_nothing_remembers():
  """MBPO: no GRU in any network, no window in any state."""
  config = tiny_config(**{'history.length': 0, 'env.name': 'point'})
  env = envs.make('point')
  algorithm = m3po.make(env, config)
  shapes = jax.eval_shape(
    algorithm.init, jax.random.PRNGKey(0), base.hyper(config)
  )
  names = {
    jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(shapes)
  }
  assert not [name for name in names if 'gru' in name]
  assert shapes.running.carry == ()
  assert shapes.imagined.data.shape[1] == 2 * 2 + 2 + 2


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'history.length': 11}, r'history.length=11: must be <= 10, collect'),
    (
      {'model_rollouts.num_rollouts': 0},
      r'model_rollouts.num_rollouts=0: must',
    ),
    ({'learn.num_updates': 0}, r'learn.num_updates=0: must'),
    ({'model_rollouts.num_rollouts': 9}, 'num_rollouts=9: must be a multiple'),
    ({'collect.start_steps': 3}, 'collect.start_steps=3: must be >= 4, the la'),
    (
      {'collect.start_steps': 11, 'collect.num_envs': 3},
      'collect.start_steps=11: must be >= 12, the la',
    ),
    (
      {'collect.buffer_capacity': 3, 'learn.batch_size': 2},
      'collect.buffer_capacity=3: must be >= 4, the large',
    ),
    (
      {'model_rollouts.buffer_capacity': 5},
      'model_rollouts.buffer_capacity=5: must be >= 10',
    ),
    (
      {'model_rollouts.kind': 'full', 'model_rollouts.num_rollouts': 14},
      r'num_full=10: .* = 100 must be a multiple of 14',
    ),
    (
      {'batches.model_share': 0.5},
      'batches.model_share=0.5: must be left at 0.95 with batches.kind=',
    ),
    (
      {'batches.decay_steps': 7},
      'batches.decay_steps=7: must be left at 200000 with',
    ),
    ({'model.num_elites': 6}, 'model.num_elites=6: must be <= 2, model.num_m'),
    (
      {'model_rollouts.growth_end': 500},
      'model_rollouts.growth_end=500: must be left at 100000 without model_r',
    ),
    (
      {'model.num_models': 4, 'model.num_elites': 3},
      'num_rollouts=10: must be a multiple of 3, the members that imagine',
    ),
    (
      {'model_rollouts.kind': 'full', 'model_rollouts.final_horizon': 3},
      r"final_horizon=3: must be None with model_rollouts.kind='full'",
    ),
    (
      {
        'model_rollouts.final_horizon': 3,
        'model_rollouts.growth_start': 50,
        'model_rollouts.growth_end': 20,
      },
      'model_rollouts.growth_end=20: must be > 50, model_rollouts.growth_st',
    ),
    (
      {
        'model_rollouts.final_horizon': 30,
        'model_rollouts.buffer_capacity': 200,
      },
      'model_rollouts.buffer_capacity=200: must be >= 300, the steps imag',
    ),
    ({'model.max_log_std': -6.0}, 'model.max_log_std=-6.0: must be > -5.0'),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(values, message):
  with pytest.raises(shared.ConfigError, match=message):
    validation.validate(tiny_config(**values), env_max_episode_steps=60)


def test_a_world_without_tasks_is_refused_where_a_history_is_asked_for():
  config = tiny_config(**{'env.name': 'point'})
  with pytest.raises(envs.TaskError, match='has no task parameters: must be a'):
    m3po.make(envs.make('point'), config)


def learn_point_direc(seed: int, **values) -> float:
  """The return of the preset's policy after its last iteration."""
  config = shared.replaced(
    learning.preset('m3po/point_direc'),
    {name.replace('__', '.'): value for name, value in values.items()},
  )
  env = envs.from_config(config.env)
  algorithm = algorithms.make('m3po', env, config)
  update = jax.jit(algorithm.update, donate_argnums=0)
  init = jax.jit(algorithm.init)
  state = init(jax.random.PRNGKey(seed), base.hyper(config))
  for _ in range(config.run.num_iterations):
    state, _ = update(state)
  play = evaluate.make_evaluate(
    env, algorithm.policy, num_episodes=100, episode_length=60
  )
  metrics = play(algorithm.policy_params(state), jax.random.PRNGKey(1234))
  return float(metrics['eval/return_mean'])


@pytest.mark.slow
def test_mbpo_learns_the_point_and_not_with_the_sign_flipped(monkeypatch):
  """Of 1 at best and 0 at random; with a growing k, and 2 of 3 members."""
  config = shared.replaced(
    learning.preset('m3po/point_direc'),
    m3po_config.MBPO
    | {
      'env.name': 'point',
      'collect.steps_per_env': 300,
      'collect.episode_length': 30,
      'learn.discount': 0.95,
      'model.num_models': 3,
      'model.num_elites': 2,
      'model_rollouts.final_horizon': 3,
      'model_rollouts.growth_end': 3000,
      'run.num_iterations': 10,
      'run.chunk': 100,
    },
  )
  assert learning.share_of_optimum_on_point(config) > 0.8
  to_batch = batches.to_batch

  def flipped(rows, moments=()):
    batch = to_batch(rows, moments)
    return batch._replace(reward=-batch.reward)

  monkeypatch.setattr(batches, 'to_batch', flipped)
  assert learning.share_of_optimum_on_point(config) < 0


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_a_history_tells_what_is_hidden(seed):
  """At least 80% of what the agent gets that is told; without, under 50%."""
  told = learn_point_direc(seed, history__length=0, env__tell_task=True)
  found = learn_point_direc(seed)
  blind = learn_point_direc(seed, history__length=0)
  print(f'told {told:.1f}, history {found:.1f}, neither {blind:.1f}')
  assert found >= 0.8 * told
  assert blind < 0.5 * told
