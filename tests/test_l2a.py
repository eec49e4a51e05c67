"""L2A: GrBAL's numbers against NumPy, what it learns from, what it refuses."""

import functools
import pathlib
import runpy
import types as types_lib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.l2a import algorithm as l2a_algorithm
from mbmpo_jax.algorithms.l2a import config as l2a
from mbmpo_jax.models import early_stopping
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import grbal
from mbmpo_jax.models import grbal_config
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.launch import tiny as tiny_lib
from tests import reference_history
from tests import test_history

_CONFIGS = pathlib.Path(__file__).parent.parent / 'experiments' / 'configs'
_KEY = jax.random.PRNGKey(0)
M, K, ALPHA = 3, 2, 0.7
# Of `point_direc`: observations and actions of 2 numbers.
INPUTS, TARGETS = 4, 3


def make(activation: str = 'tanh', **options: Any) -> grbal.Grbal:
  section = grbal_config.Ensemble(
    num_models=2, hidden_sizes=(5, 6), activation=activation, **options
  )
  return grbal.make(
    envs.make('point_direc'),
    section,
    adapt_steps=M,
    inner_lr=ALPHA,
    predict_reward=True,
  )


# By hand


def forward(layers: list[Any], x: np.ndarray) -> list[np.ndarray]:
  """What every layer sees, and the output last; tanh between."""
  seen = [x]
  for index, (weight, bias) in enumerate(layers):
    x = seen[-1] @ weight + bias
    seen.append(x if index == len(layers) - 1 else np.tanh(x))
  return seen


def loss_by_hand(layers, x, y, mask) -> float:
  error = forward(layers, x)[-1] - y
  return float(np.sum(mask * np.square(error).mean(-1)) / len(x))


def adapted_by_hand(layers, x, y, mask, alpha) -> list[Any]:
  """One step of backpropagation, layer by layer."""
  seen = forward(layers, x)
  delta = 2 * (seen[-1] - y) * mask[:, None] / y.shape[1] / len(x)
  after = []
  for index in range(len(layers) - 1, -1, -1):
    weight, bias = layers[index]
    after.append(
      (weight - alpha * seen[index].T @ delta, bias - alpha * delta.sum(0))
    )
    delta = (delta @ weight.T) * (1 - np.square(seen[index]))
  return after[::-1]


def layers_of(params: Any, member: int) -> list[Any]:
  layers = params['params']
  return [
    tuple(
      np.asarray(layers[f'Dense_{index}'][name][member], np.float64)
      for name in ('kernel', 'bias')
    )
    for index in range(len(layers))
  ]


def segments_loss_by_hand(layers, x, y, mask, weight, alpha=ALPHA) -> float:
  """L(u(theta); last K), of segments [B, M + K]."""
  total = 0.0
  for b in range(len(x)):
    first, last = (
      (x[b, part], y[b, part], mask[b, part])
      for part in (slice(M), slice(M, None))
    )
    after = adapted_by_hand(layers, *first, alpha)
    total += weight[b] * loss_by_hand(after, *last)
  return total


# The model


@pytest.fixture
def data() -> dict[str, np.ndarray]:
  """Segments; one of them begins with its episode's first step but one."""
  rng = np.random.default_rng(0)
  mask = np.ones((4, M + K))
  mask[1, :2] = 0
  return {
    'x': rng.normal(size=(4, M + K, INPUTS)),
    'y': rng.normal(size=(4, M + K, TARGETS)),
    'mask': mask,
    'weight': np.array([0.3, 0.5, 0.2, 0.0]),
  }


def member_loss(model: grbal.Grbal, data: dict[str, np.ndarray]) -> Any:
  features = np.concatenate([data['x'], data['y']], -1)
  inputs = (
    jnp.asarray(data['x'][:, -1]),
    (jnp.asarray(features), jnp.asarray(data['mask'])),
  )

  def loss(params: Any) -> jax.Array:
    return model.dynamics.loss(
      params, inputs, jnp.asarray(data['y'][:, -1]), jnp.asarray(data['weight'])
    )

  return loss


def test_the_loss_is_that_of_the_adapted_parameters(data, x64):
  model = make()
  params = jax.jit(model.dynamics.init)(_KEY)
  loss = jax.jit(member_loss(model, data))
  for member in range(2):
    found = loss(jax.tree.map(lambda x, m=member: x[m], params))
    layers = layers_of(params, member)
    np.testing.assert_allclose(
      found, segments_loss_by_hand(layers, **data), rtol=1e-12
    )
    # Adaptation is part of it, and so is the mask.
    for spoilt in ({'alpha': 0.0}, {'mask': np.ones((4, M + K))}):
      other = segments_loss_by_hand(layers, **{**data, **spoilt})
      assert abs(float(found) - other) > 1e-3


def moved(params: Any, direction: Any, step: float) -> Any:
  return jax.tree.map(
    lambda x, d: (np.asarray(x) + step * d)[None], params, direction
  )


def test_the_meta_gradient_goes_through_the_adaptation(data, x64):
  """Against central differences of the loss by hand, along directions."""
  model = make()
  params = jax.tree.map(lambda x: x[0], jax.jit(model.dynamics.init)(_KEY))
  gradient = jax.jit(jax.grad(member_loss(model, data)))(params)
  rng = np.random.default_rng(1)
  for _ in range(3):
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)

    up, down = (
      segments_loss_by_hand(layers_of(moved(params, direction, s), 0), **data)
      for s in (1e-5, -1e-5)
    )
    slope = (up - down) / 2e-5
    along = sum(
      jnp.vdot(g, d)
      for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True)
    )
    np.testing.assert_allclose(along, slope, rtol=1e-6)


def statistics() -> statistics_lib.Statistics:
  rng = np.random.default_rng(2)

  def moments(size: int) -> normalizer.Moments:
    return normalizer.Moments(
      jnp.asarray(rng.normal(size=size)), jnp.asarray(rng.uniform(1, 2, size))
    )

  return statistics_lib.Statistics(
    moments(INPUTS),
    moments(2),
    -jnp.ones(2),
    jnp.ones(2),
    moments(1),
    jnp.full(1, -100.0),
    jnp.full(1, 100.0),
  )


def begun(model: grbal.Grbal, stats: statistics_lib.Statistics) -> Any:
  """The model, ready, of new members."""
  init, ready = model.dynamics.init, model.dynamics.ready
  return jax.jit(lambda key, stats: ready(init(key), stats))(_KEY, stats)


def standard(moments: normalizer.Moments | None, x: np.ndarray) -> np.ndarray:
  assert moments is not None
  return (x - np.asarray(moments.mean)) / np.asarray(moments.std)


@pytest.mark.parametrize('known', [0, 2, 3])
def test_acting_adapts_to_the_newest_step_too(known, x64):
  """Of an episode that is 0, 2 and at least 3 = M steps old."""
  model, stats = make(), statistics()
  ready = begun(model, stats)
  rng = np.random.default_rng(3)
  window = history.empty(1, 2, 2, length=M)
  steps = rng.normal(size=(known + 1, 5))  # (o, a, r), the last only o
  for step in steps[:-1]:
    obs, action, reward = map(jnp.asarray, np.split(step, [2, 4]))
    window = history.push(window, obs[None], action[None], reward)
  one = jax.tree.map(lambda x: x[0], window)
  after = jax.jit(model.adapt)(ready, one, jnp.asarray(steps[-1, :2]))
  x = standard(stats.inputs, steps[:-1, :4])
  changes = np.diff(steps[:, :2], axis=0)
  y = np.concatenate(
    [standard(stats.targets, changes), standard(stats.reward, steps[:-1, 4:])],
    -1,
  )
  missing = M - known
  x, y = (np.pad(v, ((missing, 0), (0, 0))) for v in (x, y))
  mask = np.repeat([0.0, 1.0], [missing, known])
  for member in range(2):
    expected = adapted_by_hand(
      layers_of(ready.params, member), x, y, mask, ALPHA
    )
    for found, layer in zip(
      layers_of(after.params, member), expected, strict=True
    ):
      jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9), found, layer
      )
  same = jax.tree.map(np.array_equal, ready.params, after.params)
  assert any(jax.tree.leaves(same)) == (not known)


def test_adapting_to_choices_and_angles(x64):
  """On the acrobot: one-hot actions, sines, cosines, an angle that is cut."""
  env = envs.make('acrobot')
  section = grbal_config.Ensemble(
    num_models=1, hidden_sizes=(5, 6), activation='tanh'
  )
  model = grbal.make(
    env, section, adapt_steps=M, inner_lr=ALPHA, predict_reward=False
  )
  rng = np.random.default_rng(6)

  def moments(size: int) -> normalizer.Moments:
    mean, std = rng.normal(size=size), rng.uniform(1, 2, size)
    return normalizer.Moments(jnp.asarray(mean), jnp.asarray(std))

  far = jnp.full(4, 100.0)
  stats = statistics_lib.Statistics(moments(11), moments(4), -far, far, None)
  ready = begun(model, stats)
  obs = rng.uniform(-1, 1, (M + 1, 4))
  obs[:, 0] = 2.5, 3.1, -3.1, -2.5
  choices = np.eye(3)[[2, 0, 1]]
  window = history.Window(
    jnp.asarray(obs[:M]), jnp.asarray(choices), jnp.zeros(M), jnp.ones(M)
  )
  after = jax.jit(model.adapt)(ready, window, jnp.asarray(obs[M]))
  angles = obs[:M, :2]
  x = np.concatenate([obs[:M], np.sin(angles), np.cos(angles), choices], -1)
  change = np.diff(obs, axis=0)
  change[1, 0] += 2 * np.pi
  expected = adapted_by_hand(
    layers_of(ready.params, 0),
    standard(stats.inputs, x),
    standard(stats.targets, change),
    np.ones(M),
    ALPHA,
  )
  for found, layer in zip(layers_of(after.params, 0), expected, strict=True):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-9), found, layer
    )


@pytest.mark.slow  # Three planners that adapt.
@pytest.mark.parametrize(
  ('world', 'kind'),
  [
    ('acrobot', 'cem'),
    ('point_direc', 'mppi'),
    ('point_direc', 'random_shooting'),
  ],
)
def test_planners_act_in_the_adapted_model(world, kind):
  """The plan is another in the first step of an episode than with a window."""
  config: Any = tiny_lib.shrink(algorithms.config('l2a')())
  config = config_lib.replaced(
    config,
    {
      'env.name': world,
      'planner.kind': kind,
      'planner.num_candidates': 64,
      'planner.horizon': 3,
      'collect.episode_length': 40,
      'adaptation.inner_lr': 30.0,
    },
  )
  env = envs.make(world)
  algorithm = algorithms.make('l2a', env, config)
  state = jax.jit(algorithm.init)(_KEY, base.hyper(config))
  params = algorithm.policy_params(state)
  steps, running = real.rollout(
    env, algorithm.policy, params, _KEY, num_envs=2, horizon=8
  )
  if world == 'acrobot':
    np.testing.assert_array_equal(
      np.sort(steps.env_action), [[[0, 0, 1]] * 2] * 8
    )
  window = running.carry.window
  size = window.mask.shape[1]
  np.testing.assert_array_equal(
    window.action, np.swapaxes(steps.env_action, 0, 1)[:, -size:]
  )
  carries = [
    running.carry,
    running.carry._replace(
      window=window._replace(mask=jnp.zeros_like(window.mask))
    ),
  ]
  noise = algorithm.policy.noise(_KEY, (2,))
  told, untold = (
    algorithm.policy.act(params, carry, steps.next_obs[-1], noise)[1].env
    for carry in carries
  )
  assert np.any(told != untold)


def test_a_prediction_is_what_the_parameters_say(x64):
  model, stats = make(), statistics()
  ready = begun(model, stats)
  obs, action = np.random.default_rng(4).normal(0, 0.3, (2, 5, 2))
  _, predicted = jax.jit(model.dynamics.predict)(
    jax.tree.map(lambda x: x[1], ready), (), jnp.asarray(obs),
    jnp.asarray(action), _KEY,
  )  # fmt: skip
  x = standard(stats.inputs, np.concatenate([obs, action], -1))
  y = forward(layers_of(ready.params, 1), x)[-1]
  (mean, std), (paid, deviation) = (
    jax.tree.map(np.asarray, m) for m in (stats.targets, stats.reward)
  )
  change = mean + std * y[:, :2]
  np.testing.assert_allclose(
    predicted.next_obs, np.clip(obs + change, -1, 1), rtol=1e-9
  )
  assert predicted.reward is not None
  np.testing.assert_allclose(
    predicted.reward, paid + deviation * y[:, 2], rtol=1e-9
  )


def test_a_biased_model_adapts_too():
  plain, spoilt = make(), make(bias_max=0.1)
  stats = statistics()
  window = jax.tree.map(lambda x: x[0], test_history.random_window(0, 5))
  window = window._replace(mask=jnp.ones(M))
  after, expected = (
    jax.jit(model.adapt)(begun(model, stats), window, jnp.ones(2))
    for model in (spoilt, plain)
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6),
    after.inner.params,
    expected.params,
  )


# What it learns from


def test_segments_cross_no_episode(monkeypatch):
  """The last K steps are whole; one that is not finite is in no segment."""
  buffer = test_history.ring()
  rewards = buffer.data.reward.at[6].set(jnp.nan)
  data = buffer.data._replace(reward=rewards)
  handed: dict[str, Any] = {}

  def train(params, optimizer_state, **options):
    handed.update(options)
    info = early_stopping.Info(*(jnp.zeros(2) for _ in range(4)))
    return params, optimizer_state, info

  monkeypatch.setattr(early_stopping, 'train', train)
  env, dynamics = envs.make('point_direc'), make().dynamics
  optimizer = fit_lib.optax.adam(1e-3)

  @jax.jit
  def fit(data):
    fit_lib.fit_dynamics(
      fit_lib.init(dynamics, optimizer, _KEY),
      dynamics,
      optimizer,
      data,
      buffer_lib.mask(buffer),
      _KEY,
      section=grbal_config.Ensemble(num_models=2),
      rolling_persistence=0.9,
      model_input=env.model_input,
      predict_reward=True,
      segment=(2, K),
    )
    return handed['valid'], *handed['histories'](jnp.arange(12))

  valid, features, mask = jax.tree.map(np.asarray, fit(data))
  rows = jax.tree.map(np.asarray, data)
  sound = np.isfinite(rows.reward)
  raw = np.concatenate(
    [rows.obs, rows.action, rows.next_obs - rows.obs, rows.reward[:, None]], -1
  )
  table = (raw - raw[sound].mean(0)) / raw[sound].std(0)
  ages = set()
  for slot in range(12):
    places = reference_history.windows(rows, slot, 1 + K, int(buffer.size))
    places = [p if p is None or sound[p] else None for p in (*places, slot)]
    # A window begins after the last step that is missing.
    places = [
      p if None not in places[i:] else None for i, p in enumerate(places)
    ]
    whole = None not in places[2:]
    assert valid[slot] == whole
    if not whole:
      continue
    ages.add(places.count(None))
    for step, place in enumerate(places):
      assert mask[slot, step] == (place is not None)
      np.testing.assert_allclose(
        features[slot, step],
        np.zeros(7) if place is None else table[place],
        rtol=1e-3,
        atol=1e-4,
      )
  assert ages == {0, 1, 2}
  assert 0 < valid.sum() < sound.sum()


def test_the_gain_is_what_adaptation_takes_off_the_error(data, x64):
  model, stats = make(), statistics()
  ready = begun(model, stats)
  rng = np.random.default_rng(5)
  steps = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=(4, M + K, *x.shape[1:]))),
    buffer_lib.init_transitions(1, 2, 2).data,
  )
  before, after = jax.jit(model.errors)(
    ready, steps, *(jnp.asarray(data[name]) for name in ('mask', 'weight'))
  )
  obs, action, reward, next_obs = (
    np.asarray(x)
    for x in (steps.obs, steps.action, steps.reward, steps.next_obs)
  )
  x = standard(stats.inputs, np.concatenate([obs, action], -1))
  y = np.concatenate(
    [
      standard(stats.targets, next_obs - obs),
      standard(stats.reward, reward[..., None]),
    ],
    -1,
  )
  for found, alpha in ((before, 0.0), (after, ALPHA)):
    expected = np.mean(
      [
        segments_loss_by_hand(
          layers_of(ready.params, m), x, y, data['mask'], data['weight'], alpha
        )
        for m in range(2)
      ]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_gain_is_of_whole_segments_of_the_buffer(x64):
  """Two episodes, a broken row and empty slots; the share that is removed."""
  model, stats = make(), statistics()
  lengths = (9, 7)
  rng = np.random.default_rng(6)
  rows = types.Transition(
    obs=rng.normal(size=(16, 2)),
    action=rng.uniform(-1, 1, (16, 2)),
    reward=rng.normal(size=16),
    next_obs=rng.normal(size=(16, 2)),
    terminated=np.zeros(16),
    truncated=np.zeros(16),
    episode=np.repeat(np.arange(2, dtype=np.int32), lengths),
    time=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
  )
  rows.reward[12] = np.nan  # The buffer leaves it out.
  buffer = buffer_lib.add(buffer_lib.init_transitions(20, 2, 2), rows)
  state = types_lib.SimpleNamespace(model=begun(model, stats), buffer=buffer)
  found = l2a_algorithm.gain(model, state, (M, K), _KEY)

  x = standard(stats.inputs, np.concatenate([rows.obs, rows.action], -1))
  y = np.concatenate(
    [
      standard(stats.targets, rows.next_obs - rows.obs),
      standard(stats.reward, rows.reward[:, None]),
    ],
    -1,
  )
  broken = np.isnan(y).any(-1)
  segments = []
  for last in range(16):
    taken = [last - back for back in range(M + K - 1, -1, -1)]
    live = [
      p >= 0 and rows.episode[p] == rows.episode[last] and not broken[p]
      for p in taken
    ]
    # From the last gap on; the K predicted steps are all there.
    live = [all(live[i:]) for i in range(M + K)]
    if all(live[M:]):
      segments.append((taken, np.asarray(live, float)))
  assert 0 < len(segments) < 16
  x, y = np.nan_to_num(x), np.nan_to_num(y)
  cut = [np.where(mask > 0, taken, 0) for taken, mask in segments]
  mask = np.stack([mask for _, mask in segments])
  x, y = (np.stack([v[rows] for rows in cut]) for v in (x, y))
  weight = np.full(len(segments), 1 / len(segments))
  before, after = (
    np.mean(
      [
        segments_loss_by_hand(
          layers_of(state.model.params, m), x, y, mask, weight, alpha
        )
        for m in range(2)
      ]
    )
    for alpha in (0.0, ALPHA)
  )
  assert abs(after - before) > 1e-3
  np.testing.assert_allclose(found, 1 - after / before, rtol=1e-9)
  empty = buffer_lib.init_transitions(20, 2, 2)
  state = types_lib.SimpleNamespace(model=state.model, buffer=empty)
  assert l2a_algorithm.gain(model, state, (M, K), _KEY) == 0


# The algorithm


def test_the_step_size_is_the_states():
  """So that the runs of a sweep may differ in it."""
  config = l2a.Config(env=config_lib.Env(name='point_direc'))
  config = config_lib.replaced(
    config, {'model.hidden_sizes': (8,), 'collect.episode_length': 40}
  )
  env = envs.make('point_direc')
  algorithm = algorithms.make('l2a', env, config)
  hyper = base.hyper(config) | {'adaptation.inner_lr': jnp.asarray(0.25)}
  state = jax.jit(algorithm.init)(_KEY, hyper)
  np.testing.assert_array_equal(state.model.inner_lr, [0.25])
  carry = algorithm.policy.start(algorithm.policy_params(state), _KEY, (), 3)
  assert carry.window.mask.shape == (3, config.adaptation.adapt_steps)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (
      {'adaptation.adapt_steps': 0},
      'adaptation.adapt_steps=0: must be an int >= 1',
    ),
    (
      {'adaptation.predict_steps': 0},
      'adaptation.predict_steps=0: must be an int >= 1',
    ),
    (
      {'adaptation.adapt_steps': 30, 'adaptation.predict_steps': 31},
      'adaptation.adapt_steps=30: must be <= 29, collect.episode_length - ',
    ),
    ({'adaptation.inner_lr': -1.0}, 'adaptation.inner_lr=-1.0: must be'),
    ({'model.predict_done': True}, 'model.predict_done=True: must be False'),
    (
      {'planner.kind': 'mppi', 'planner.smoothing': 0.0},
      "planner.smoothing=0.0: must be 0.1, as planner.kind='mppi'",
    ),
  ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
  config = config_lib.replaced(
    l2a.Config(),
    {'env.name': 'point_direc', 'collect.episode_length': 60, **values},
  )
  with pytest.raises(config_lib.ConfigError, match=message):
    algorithms.make('l2a', envs.make('point_direc'), config)


def test_a_world_without_tasks_is_refused():
  config = config_lib.replaced(
    l2a.Config(),
    {
      'env.name': 'point',
      'collect.episode_length': 30,
      'adaptation.adapt_steps': 8,
    },
  )
  with pytest.raises(
    envs.TaskError, match=r'env: Point has no task parameters: must be .* l2a'
  ):
    algorithms.make('l2a', envs.make('point'), config)


def learn_point_direc(seed: int, inner_lr: float) -> float:
  """The mean return of 100 episodes after the preset's run."""
  path = _CONFIGS / 'l2a' / 'point_direc.py'
  config = runpy.run_path(str(path))['get_config']()
  env = envs.make(config.env.name)
  algorithm = algorithms.make('l2a', env, config)
  hyper = base.hyper(config) | {'adaptation.inner_lr': jnp.asarray(inner_lr)}
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(seed), hyper)
  update = jax.jit(algorithm.update)
  for _ in range(config.run.num_iterations):
    state, _ = update(state)
  play = evaluate.make_evaluate(
    env, algorithm.policy, num_episodes=100, episode_length=60
  )
  metrics = play(algorithm.policy_params(state), jax.random.PRNGKey(1234))
  return float(metrics['eval/return_mean'])


@pytest.mark.slow
def test_adaptation_finds_the_direction():
  """Of 60 at best; without adaptation nothing tells the direction."""
  adapted, fixed = learn_point_direc(0, 0.3), learn_point_direc(0, 0.0)
  print(f'adapted {adapted:.1f}, not adapted {fixed:.1f}')
  assert adapted > 40
  assert fixed < 10


def test_a_reward_of_what_the_model_does_not_see_is_refused(monkeypatch):
  """With advice that L2A takes."""
  env = envs.make('acrobot')
  monkeypatch.setattr(env, 'model_input', lambda obs: obs[..., 1:])
  monkeypatch.setattr(
    env, 'reward', lambda obs, action, next_obs: next_obs[..., 0]
  )
  config = config_lib.replaced(
    tiny_lib.shrink(algorithms.config('l2a')()), {'env.name': 'acrobot'}
  )
  with pytest.raises(
    envs.ContractError, match=r'only dimension 0.*must be left undefined'
  ):
    algorithms.make('l2a', env, config, check=False)
