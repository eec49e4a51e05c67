"""GSSM's phases: contexts, fit, held tasks, updates, adaptation."""

import functools
import pathlib
import runpy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as shared
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.gssm import adaptation
from mbmpo_jax.algorithms.gssm import algorithm as gssm
from mbmpo_jax.algorithms.gssm import config as gssm_config
from mbmpo_jax.algorithms.gssm import contexts
from mbmpo_jax.algorithms.gssm import fit as fit_lib
from mbmpo_jax.algorithms.gssm import learners
from mbmpo_jax.algorithms.gssm import policy_step
from mbmpo_jax.models import base as models
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate as surrogate_lib
from mbmpo_jax.objectives import bptt
from mbmpo_jax.objectives import elbo
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.launch import tiny as tiny_lib

WORLD = 'cartpole_swingup_masses'
PRESET = (
  pathlib.Path(__file__).parents[1]
  / 'experiments/configs/gssm/cartpole_swingup.py'
)


def tiny_config(**values) -> gssm_config.Config:
  """Episodes of 5 steps, a task every 2 iterations."""
  config = tiny_lib.shrink(gssm_config.Config())
  values = {
    'env.name': WORLD,
    'collect.buffer_capacity': 40,
    'collect.num_trajectories': 2,
    **{name.replace('__', '.'): value for name, value in values.items()},
  }
  return shared.replaced(config, values)


@functools.cache
def world(name: str = WORLD) -> envs.Environment:
  return envs.make(name)


def begun(algorithm: base.Algorithm, config: gssm_config.Config) -> Any:
  """The state to begin with; eager, `init` is a hundred programs."""
  return jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))


class Run(NamedTuple):
  """An algorithm and its states, the first without data."""

  config: gssm_config.Config
  algorithm: base.Algorithm
  collect: Any
  states: list[Any]


@pytest.fixture(scope='module')
def run() -> Run:
  """GSSM's, after three iterations."""
  config = tiny_config()
  algorithm = gssm.make(world(), config)
  state = begun(algorithm, config)
  update = jax.jit(algorithm.update)
  states = [state]
  for _ in range(3):
    state, metrics = update(state)
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    states.append(state)
  collect = jax.jit(algorithm.phases['collect'].function)
  return Run(config, algorithm, collect, states)


def recorded(num: int = 9, tasks: int = 3) -> contexts.Data:
  """Points whose x is their slot, of tasks in turn; the last is no point."""
  slots = jnp.arange(num)
  x = slots[:, None].astype(float)
  mask = (slots < num - 1).astype(float)
  return contexts.Data(sets.Points(x, x, mask), slots % tasks)


def test_points_are_of_their_task_and_none_is_drawn_twice():
  draw = jax.jit(contexts.draw, static_argnames='count')
  for seed in range(5):
    points = draw(recorded(), jnp.int32(2), jax.random.PRNGKey(seed), count=40)
    found = points.x[points.mask > 0, 0].tolist()
    assert sorted(found) == [2, 5]  # 8 is no point.
    assert not np.any(points.x[points.mask == 0])
  none = draw(recorded(), jnp.int32(7), jax.random.PRNGKey(0), count=4)
  assert not np.any(none.mask)


@pytest.mark.parametrize(('rows', 'live'), [(5, 5), (7, 7), (8, 7), (20, 7)])
def test_as_many_points_are_drawn_as_there_are_and_all_alike(rows, live):
  """Of 7 points, in 4,000 draws."""
  draw = jax.vmap(
    lambda key: contexts.draw(recorded(8, 1), jnp.int32(0), key, count=rows)
  )
  points = jax.jit(draw)(jax.random.split(jax.random.PRNGKey(0), 4000))
  alive = np.asarray(points.mask) > 0
  assert set(alive.sum(1)) == {live}
  found = np.asarray(points.x)[..., 0][alive].astype(int)
  assert all(len(set(x)) == live for x in found.reshape(-1, live))
  share = np.bincount(found, minlength=7) / 4000
  np.testing.assert_allclose(share, live / 7, atol=0.05)


@pytest.mark.parametrize('rows', [12, 41])
def test_contexts_have_every_size_that_is_allowed(rows):
  """Uniformly, to the size that there is room for, or as many as there are."""
  section = gssm_config.Model(context_size=30, min_context=2)
  data = recorded(rows, 1)
  draw = jax.jit(
    jax.vmap(
      lambda key: contexts.context(data, jnp.int32(0), key, section=section)
    )
  )
  contexts_drawn = draw(jax.random.split(jax.random.PRNGKey(0), 4000))
  sizes = np.sum(contexts_drawn.mask, 1).astype(int)
  most = min(30, rows - 1)
  shares = np.bincount(sizes, minlength=most + 1) / 4000
  assert shares.size == most + 1 and not np.any(shares[:2])
  np.testing.assert_allclose(shares[2:], 1 / (most - 1), atol=0.03)
  # Of all points, not of the oldest.
  seen = np.asarray(contexts_drawn.x)[..., 0][contexts_drawn.mask > 0]
  assert set(seen.astype(int)) == set(range(rows - 1))


def test_tasks_are_chosen_by_their_points_or_are_the_current_one():
  task = jnp.asarray([0, 0, 0, 1])
  points = sets.Points(jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.ones(4))
  data = contexts.Data(points, task)
  choose = functools.partial(
    contexts.choose, data, jnp.int32(5), jax.random.PRNGKey(0), num=1000
  )
  np.testing.assert_allclose(np.mean(choose(kind='all')), 0.25, atol=0.05)
  assert set(choose(kind='current').tolist()) == {5}


def of_tasks(seed: int, tasks: int, steps: int = 60):
  """Random transitions of new tasks, their numbers."""
  family = envs.family_of(world(), 'test')

  def one(key: jax.Array) -> Any:
    task_key, key = jax.random.split(key)
    env = envs.fixed(family, family.sample_task(task_key))
    trajectory, _ = real.rollout(
      env,
      some_policy(),
      (),
      key,
      num_envs=1,
      horizon=steps,
      time_limit=20,
      random_actions=True,
    )
    return real.to_transitions(trajectory, jnp.int32(0))[0]

  rows = jax.jit(jax.vmap(one))(
    jax.random.split(jax.random.PRNGKey(seed), tasks)
  )
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
  return flat, jnp.repeat(jnp.arange(tasks), steps)


def some_policy() -> Any:
  return policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Gaussian(obs[..., :1], obs[..., :1]),
    noise=functools.partial(distributions.normal_noise, action_size=1),
  )


class Fit(NamedTuple):
  """A surrogate of the cart-pole and its fit, compiled."""

  section: gssm_config.Model
  surrogate: surrogate_lib.Surrogate
  hyper: base.Hyper
  state: Any
  data: contexts.Data
  run: Any  # (state, hyper) -> what `fit` returns


def data_of(rows: Any, numbers: jax.Array) -> contexts.Data:
  points = sets.of_transitions(
    rows,
    jnp.ones(numbers.shape),
    model_input=world().model_input,
    target='delta',
  )
  return contexts.Data(points, numbers)


@pytest.fixture(scope='module')
def fit() -> Fit:
  section = gssm_config.Model(
    encoder_sizes=(16,),
    feature_size=8,
    latent_size=4,
    decoder_sizes=(32,),
    context_size=20,
    target_size=20,
    gradient_steps=300,
    learning_rate=3e-3,
  )
  hyper = base.hyper(shared.replaced(tiny_config(), {'model': section}))
  surrogate = surrogate_lib.make(world(), section)
  rows, numbers = of_tasks(1, 6)
  data = data_of(rows, numbers)
  made = jax.jit(fit_lib.make(surrogate, section))

  def run(state: Any, hyper: base.Hyper) -> Any:
    stored, key = jnp.ones(numbers.shape), jax.random.PRNGKey(1)
    current = jnp.int32(0)
    return made(state, data, rows.next_obs, stored, current, hyper, key)

  init = jax.jit(functools.partial(fit_lib.init, surrogate))
  state = init(hyper, jax.random.PRNGKey(0))
  return Fit(section, surrogate, hyper, state, data, run)


@pytest.mark.slow
def test_the_fit_raises_the_evidence_bound_of_tasks_that_it_has_not_seen(fit):
  after, model, metrics = fit.run(fit.state, fit.hyper)
  assert metrics['model/gradient_steps'] == 300
  scale = jax.tree.map(lambda x: x[0], model).statistics
  unseen = data_of(*of_tasks(2, 4))
  unseen = unseen._replace(points=sets.standardize(unseen.points, scale))

  @jax.jit
  def bound(params: Any) -> jax.Array:
    def one(task: jax.Array, key: jax.Array) -> jax.Array:
      draw_key, split_key, key = jax.random.split(key, 3)
      points = contexts.draw(unseen, task, draw_key, count=40)
      context, targets = elbo.split(
        points, split_key, context_size=20, target_size=20
      )
      return -fit.surrogate.loss(params, context, targets, key)[0]

    keys = jax.random.split(jax.random.PRNGKey(3), 4)
    return jnp.mean(jax.vmap(one)(jnp.arange(4), keys))

  first, last = (
    bound(jax.tree.map(lambda x: x[0], s.params)) for s in (fit.state, after)
  )
  assert last > first + 2


def errors_of_unseen_tasks(kind: str) -> tuple[float, float]:
  """After a fit to 40 tasks, given 50 points of the task, and of another."""
  section = gssm_config.Model(
    kind=kind,
    encoder_sizes=(64,),
    feature_size=16,
    latent_size=8,
    decoder_sizes=(64, 64),
    context_size=50,
    target_size=50,
    gradient_steps=8000,
    learning_rate=2e-3,
  )
  hyper = base.hyper(shared.replaced(tiny_config(), {'model': section}))
  surrogate = surrogate_lib.make(world(), section)
  rows, numbers = of_tasks(1, 40, 100)
  state = fit_lib.init(surrogate, hyper, jax.random.PRNGKey(0))
  _, model, _ = jax.jit(fit_lib.make(surrogate, section))(
    state,
    data_of(rows, numbers),
    rows.next_obs,
    jnp.ones(numbers.shape),
    jnp.int32(0),
    hyper,
    jax.random.PRNGKey(1),
  )
  model = jax.tree.map(lambda x: x[0], model)
  unseen = jax.tree.map(
    lambda x: x.reshape(20, 100, *x.shape[1:]), of_tasks(2, 20, 100)[0]
  )
  points = jax.vmap(lambda x: data_of(x, jnp.zeros(100)).points)(unseen)
  known = jax.tree.map(lambda x: x[:, :50], points)
  targets = jax.tree.map(lambda x: x[:, 50:], unseen)
  std = jnp.std(unseen.next_obs - unseen.obs, (0, 1))

  @jax.jit
  def error(known: sets.Points) -> jax.Array:
    def of_task(known: sets.Points, rows: Any, key: jax.Array) -> jax.Array:
      start_key, key = jax.random.split(key)
      carry = surrogate.dynamics.start(model, start_key, known, 50)
      _, found = surrogate.dynamics.predict(
        model, carry, rows.obs, rows.action, key
      )
      return jnp.mean(((found.next_obs - rows.next_obs) / std[None]) ** 2)

    keys = jax.random.split(jax.random.PRNGKey(3), 20)
    return jnp.mean(jax.vmap(of_task)(known, targets, keys))

  other = jax.tree.map(lambda x: jnp.roll(x, 10, 0), known)
  return float(error(known)), float(error(other))


@pytest.mark.slow
def test_the_context_tells_the_task():
  """GSSM's errors are halved by it; a model without one ignores it."""
  own, other = errors_of_unseen_tasks('graph')
  print(f'graph: {own:.4f} and {other:.4f}')
  assert own < 0.5 * other
  without, same = errors_of_unseen_tasks('dropout')
  print(f'dropout: {without:.4f}')
  assert without == same
  assert own < without


def test_a_gradient_that_is_not_finite_is_not_taken(fit):
  hyper = {**fit.hyper, 'model.kl_weight': jnp.asarray(jnp.nan)}
  after, _, metrics = fit.run(fit.state, hyper)
  jax.tree.map(np.testing.assert_array_equal, after, fit.state)
  assert metrics['nonfinite/model_updates'] == fit.section.gradient_steps
  assert metrics['model/gradient_steps'] == 0


def test_a_task_is_held_and_another_drawn_when_it_is_due(run):
  numbers = [int(state.task_index) for state in run.states]
  assert numbers == [-1, 0, 0, 1]
  masses = [float(state.task.cart_mass) for state in run.states[1:]]
  assert masses[0] == masses[1] != masses[2]
  buffer = run.states[-1].buffer
  assert int(buffer.size) == 30
  assert buffer.data.extras[:30].tolist() == [0] * 20 + [1] * 10
  # The data are the held task's: the world of it says so.
  env = envs.fixed(envs.family_of(world(), 'test'), run.states[-1].task)
  obs, action = buffer.data.obs[25], buffer.data.action[25]
  np.testing.assert_allclose(
    env.advance(obs, action), buffer.data.next_obs[25], rtol=1e-5, atol=1e-5
  )


def test_the_context_reaches_the_policy_that_collects(run):
  """Other data of the current task, and it acts otherwise."""
  state = run.states[-1]

  def actions(state: Any) -> np.ndarray:
    after, _ = run.collect(state)
    return np.asarray(after.buffer.data.action[30:40])

  def changed(rows: slice) -> Any:
    data = state.buffer.data
    data = data._replace(next_obs=data.next_obs.at[rows].add(1.0))
    return state._replace(buffer=state.buffer._replace(data=data))

  before = actions(state)
  assert np.any(actions(changed(slice(20, 30))) != before)
  np.testing.assert_array_equal(actions(changed(slice(0, 20))), before)


def test_random_trajectories_come_first_and_tell_the_policy_its_task(run):
  """They are stored and counted; returns and first actions are the policy's."""
  collected = []
  for num in (0, 2):
    config = tiny_config(
      collect__num_trajectories=1,
      collect__random_trajectories=num,
      collect__random_iterations=0,
    )
    algorithm = gssm.make(world(), config)
    collect = jax.jit(algorithm.phases['collect'].function)
    # A policy of larger actions, whose first one depends on z.
    start = run.states[-1]
    start = begun(algorithm, config)._replace(
      learners=start.learners, model=start.model
    )
    collected.append(collect(start))
  (alone, _), (state, metrics) = collected
  data, before = state.buffer.data, alone.buffer.data
  assert (
    metrics['env_steps'] == 15 == metrics['real_steps'] == config.collect.steps
  )
  assert int(state.buffer.size) == 15 and np.all(data.extras[:15] == 0)
  # Uniform actions: their mean size is 1/2.
  assert 0.3 < np.mean(np.abs(data.action[:10])) < 0.7
  assert metrics['real/return'] == pytest.approx(np.sum(data.reward[10:15]))
  # Rows of several trajectories are in the order of trajectories.
  np.testing.assert_array_equal(data.obs[10], before.obs[0])
  assert data.action[10] != before.action[0]


def scripted(num: int, judged: list[float], leader: int = 0) -> tuple[Any, Any]:
  """Learners that are a number each, which an update raises by it; metrics."""

  def update(learner: Any, key: jax.Array) -> tuple[Any, Any]:
    del key
    return learner + 1, {'value': learner, 'nonfinite/x': jnp.ones(())}

  start = learners.Learners(jnp.asarray(judged), jnp.int32(leader))
  keys = jax.random.split(jax.random.PRNGKey(0), num)
  return learners.learn(
    start, update, keys, metrics=('value', 'nonfinite/x'), judged_by='value'
  )


def test_the_learner_that_earns_most_leads():
  """By its mean over the updates; counts are of all, NaN never leads."""
  after, found = scripted(3, [5.0, 7.0, jnp.nan, 6.0])
  assert after.leader == 1 and after.best == 10
  assert found['value'] == 8 and found['nonfinite/x'] == 12


def test_the_leader_stays_if_no_learner_has_a_finite_return():
  after, _ = scripted(2, [jnp.nan, jnp.nan, jnp.nan], leader=2)
  assert after.leader == 2


def test_all_but_the_leader_are_drawn_anew_when_it_is_due():
  start = learners.init(jax.random.normal, jax.random.PRNGKey(0), num=3)
  start = start._replace(leader=jnp.int32(1))

  def again(due: bool) -> list[bool]:
    after = learners.restarted(
      start, jnp.asarray(due), jax.random.normal, jax.random.PRNGKey(1)
    )
    assert after.leader == 1
    return (after.each != start.each).tolist()

  assert again(True) == [True, False, True]
  assert again(False) == [False] * 3


def test_two_learners_take_turns(run):
  """In the algorithm: what acts is the leader's, and others are drawn anew."""
  config = shared.replaced(
    run.config, {'improve.num_learners': 2, 'improve.restart_every': 1}
  )
  algorithm = gssm.make(world(), config)
  state = begun(algorithm, config)
  improve = jax.jit(algorithm.phases['improve'].function)
  first, metrics = improve(state)
  updates = 2 * config.improve.num_updates
  assert metrics['policy/updates'] + metrics['nonfinite/updates'] == updates
  second, _ = improve(first)
  counts = [
    leaf
    for leaf in jax.tree.leaves(second.learners.each.optimizer)
    if leaf.dtype == jnp.int32
  ]
  # Adam's count of the one that was drawn anew is of one iteration.
  assert int(first.learners.leader) in (0, 1)
  kept = np.sort(np.asarray(counts[0])).tolist()
  assert kept == [config.improve.num_updates, 2 * config.improve.num_updates]
  jax.tree.map(
    lambda leaf, best: np.testing.assert_array_equal(
      leaf[second.learners.leader], best
    ),
    second.learners.each.policy,
    algorithm.policy_params(second),
  )


def steps_of_a_task(run: Run, horizon: int, seed: int = 0):
  rollout = functools.partial(
    real.rollout,
    world(),
    run.algorithm.policy,
    num_envs=1,
    horizon=horizon,
    random_actions=True,
  )
  params = run.algorithm.policy_params(run.states[-1])
  return jax.jit(rollout)(params, jax.random.PRNGKey(seed))[0]


def test_amortised_adaptation_changes_nothing_but_the_context(run):
  state = run.states[-1]
  adapt = jax.jit(run.algorithm.adapt)
  params, z = adapt(state, steps_of_a_task(run, 5), jax.random.PRNGKey(0))
  jax.tree.map(
    np.testing.assert_array_equal, params, run.algorithm.policy_params(state)
  )
  _, other = adapt(state, steps_of_a_task(run, 5, 1), jax.random.PRNGKey(0))
  assert z.shape == (run.config.model.latent_size,)
  assert np.all(np.isfinite(z)) and np.any(z != other)


def test_a_transition_that_is_not_finite_is_no_context(run):
  """z is that of the others; of none it is 0."""
  state, key = run.states[-1], jax.random.PRNGKey(0)
  steps = steps_of_a_task(run, 5)
  adapt = jax.jit(run.algorithm.adapt)
  broken = steps._replace(next_obs=steps.next_obs.at[3:].set(jnp.nan))
  _, z = adapt(state, broken, key)
  _, expected = adapt(state, jax.tree.map(lambda x: x[:3], steps), key)
  np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
  assert np.any(z != adapt(state, steps, key)[1])
  nothing = steps._replace(obs=jnp.full_like(steps.obs, jnp.nan))
  assert not np.any(adapt(state, nothing, key)[1])


def test_a_context_larger_than_its_room_is_refused(run):
  with pytest.raises(shared.ConfigError, match=r'context=6 .* must be <= 5'):
    run.algorithm.adapt(
      run.states[-1], steps_of_a_task(run, 6), jax.random.PRNGKey(0)
    )


@pytest.mark.parametrize(
  ('name', 'values'),
  [
    pytest.param(
      WORLD,
      {'model__kind': 'dropout', 'policy__amortised': False},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'acrobot',
      {'model__kind': 'mean', 'improve__kind': 'ppo'},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      WORLD,
      {
        'model__kind': 'attentive',
        'improve__kind': 'ppo',
        'policy__amortised': False,
      },
      marks=pytest.mark.slow,
    ),
  ],
)
def test_other_models_and_policies(name, values):
  """Finite; what is not amortised is adapted by updates."""
  config = tiny_config(env__name=name, **values)
  algorithm = gssm.make(world(name), config)
  state = begun(algorithm, config)
  after, metrics = jax.jit(algorithm.update)(state)
  assert all(np.isfinite(value) for value in metrics.values()), metrics
  assert metrics['policy/updates'] > 0
  rollout = functools.partial(
    real.rollout, world(name), algorithm.policy, num_envs=1, horizon=5
  )
  trajectory, _ = jax.jit(rollout)(
    algorithm.policy_params(after), jax.random.PRNGKey(0)
  )
  assert algorithm.adapt is not None
  params, context = jax.jit(algorithm.adapt)(
    after, trajectory, jax.random.PRNGKey(0)
  )
  moved = [
    bool(np.any(a != b))
    for a, b in zip(
      jax.tree.leaves(params),
      jax.tree.leaves(algorithm.policy_params(after)),
      strict=True,
    )
  ]
  assert any(moved) != config.policy.amortised
  assert bool(jax.tree.leaves(context)) == config.policy.amortised


@pytest.mark.parametrize(
  ('name', 'values', 'message'),
  [
    ('acrobot', {}, "improve.kind='bptt': must be 'ppo'"),
    (WORLD, {'model__kind': 'dropout'}, 'policy.amortised=True: must be False'),
    (WORLD, {'model__context_size': 41}, 'model.context_size=41: must be <='),
    (
      WORLD,
      {'improve__kind': 'ppo', 'learn__num_minibatches': 3},
      'learn.num_minibatches=3: must divide 20',
    ),
    (WORLD, {'model_rollouts__horizon': 26}, 'model_rollouts.horizon=26'),
    (
      WORLD,
      {'policy__feature_scales': (1.0, 2.0)},
      'policy.feature_scales=(1.0, 2.0): must have 5 numbers',
    ),
    ('point', {}, 'has no task parameters'),
    ('point_direc', {}, 'depends on a hidden task'),
  ],
)
def test_what_cannot_be_is_refused(name, values, message):
  with pytest.raises((shared.ConfigError, envs.TaskError)) as error:
    gssm.make(world(name), tiny_config(env__name=name, **values))
  assert message in str(error.value)
  assert '\n' not in str(error.value)


def test_a_task_that_changes_within_an_episode_is_refused():
  env = envs.make(WORLD, schedule='switch', switch_period=3)
  with pytest.raises(shared.ConfigError, match=r"env\.tasks='switch': must be"):
    gssm.make(env, tiny_config())


def test_data_of_several_tasks_from_outside_stay_apart(run):
  """Where `extras` number them; else they are of the task of the moment."""
  two = jax.tree.map(
    lambda x, y: jnp.concatenate([x, y], 1),
    *(steps_of_a_task(run, 5, seed)._replace(extras=()) for seed in (0, 1)),
  )
  numbers = jnp.broadcast_to(jnp.asarray([[70, 71]]), (5, 2))
  state = run.states[1]
  told = run.algorithm.add(state, two._replace(extras=numbers))
  assert told.buffer.data.extras[10:20].tolist() == [70] * 5 + [71] * 5
  untold = run.algorithm.add(state, two)
  assert untold.buffer.data.extras[10:20].tolist() == [0] * 10


def test_ppo_in_the_model_sees_each_rollout_as_it_was(monkeypatch):
  """z with its own rollout, nothing after an end, nothing of a broken one.

  A model by hand, told by its context k: 0 goes on, 1 reaches the goal in its
  second step, 2 breaks in its third.
  """
  config = tiny_config(
    env__name='acrobot', improve__kind='ppo', model_rollouts__untold=0.0
  )
  env = envs.make('acrobot', 'terminating')
  made = policy_step.make_parts(env, config)
  size, horizon = config.model.latent_size, config.model_rollouts.horizon

  def start(model: Any, key: Any, context: sets.Points, num: int) -> Any:
    return jnp.broadcast_to(context.x[0, 0], (num,)), jnp.zeros(num)

  def predict(
    model: Any, carry: Any, obs: jax.Array, action: jax.Array, key: Any
  ) -> Any:
    kind, steps = carry
    goal = (kind == 1) & (steps == 1)
    obs = obs.at[:, 0].set(jnp.where(goal, jnp.pi, 0.1))
    obs = obs.at[:, 1].set(0.0)
    broken = (kind == 2) & (steps == 2)
    obs = jnp.where(broken[:, None], jnp.nan, obs)
    return (kind, steps + 1), models.Prediction(obs)

  def encode(model: Any, context: sets.Points, key: Any) -> Any:
    mean = jnp.full(size, context.x[0, 0])
    return surrogate_lib.Latent(mean, jnp.full(size, -jnp.inf), mean)

  dynamics: Any = models.Dynamics(
    init=None, ready=None, start=start, predict=predict, loss=None
  )
  surrogate = surrogate_lib.Surrogate(dynamics, lambda: None, encode)
  steps = policy_step.make(env, config, made, surrogate)
  hyper = base.hyper(config)
  learner = policy_step.init(made, config.learn, hyper, jax.random.PRNGKey(0))
  known = sets.Points(
    jnp.asarray([0.0, 1.0, 2.0])[:, None, None],
    jnp.zeros((3, 1, 1)),
    jnp.ones((3, 1)),
  )
  seen: list[Any] = []
  judge = on_policy.judge

  def spy(value: Any, params: Any, trajectory: Any, hyper: Any) -> Any:
    seen.append(trajectory)
    return judge(value, params, trajectory, hyper)

  monkeypatch.setattr(on_policy, 'judge', spy)
  updated = functools.partial(steps.update, learner, (), known, hyper)
  found = jax.jit(lambda key: (updated(key, 2)[1], seen[-1]))(
    jax.random.PRNGKey(1)
  )
  metrics, trajectory = jax.tree.map(np.asarray, found)
  kinds = trajectory.obs[..., -1]  # [T, N]
  assert trajectory.obs.shape == (horizon, 6, 8 + size)
  live = trajectory.mask
  for n in range(6):
    kind = kinds[0, n]
    assert set(kinds[:, n]) == {kind}
    expected = {0: horizon, 1: 2, 2: 0}[int(kind)]
    assert live[:, n].sum() == live[:expected, n].sum() == expected
    assert trajectory.terminated[:, n].sum() == (kind == 1)
    np.testing.assert_array_equal(
      trajectory.next_obs[:, n, -size:], np.full((horizon, size), kind)
    )
  assert sorted(kinds[0].astype(int)) == [0, 0, 1, 1, 2, 2]
  assert metrics['nonfinite/rollouts'] == 2
  # -1 a step, but for the one that reaches the goal; over what is finite.
  np.testing.assert_allclose(
    metrics['imagined/return'], -(2 * horizon + 2) / 4, rtol=1e-6
  )
  assert metrics['policy/updates'] > 0


def test_contexts_count_by_their_finite_particles(monkeypatch):
  """Of 4 and 1 particles, a context of gradient 1 and one of -2."""
  config = tiny_config(model_rollouts__untold=0.0)
  made = policy_step.make_parts(world(), config)
  surrogate = surrogate_lib.make(world(), config.model)

  def gradient(policy: Any, params: Any, *_: Any, context: Any, **__: Any):
    slope, rejected = context.x[0, 0], context.y[0, 0]
    tree = jax.tree.map(lambda x: jnp.full_like(x, slope), params)
    return tree, bptt.Info(10 * slope, rejected)

  monkeypatch.setattr(bptt, 'gradient', gradient)
  steps = policy_step.make(world(), config, made, surrogate)
  hyper = base.hyper(config)
  learner = policy_step.init(made, config.learn, hyper, jax.random.PRNGKey(0))
  blank = sets.empty(2, 6, 4)
  known = jax.tree.map(lambda x: jnp.stack([x, x]), blank)
  known = known._replace(
    x=known.x.at[:, 0, 0].set(jnp.array([1.0, -2.0])),
    y=known.y.at[:, 0, 0].set(jnp.array([0.0, 3.0])),
  )
  model = jax.tree.map(
    lambda x: x[0],
    jax.jit(
      lambda key: surrogate.dynamics.ready(
        surrogate.dynamics.init(key), statistics_lib.identity(6, 4)
      )
    )(jax.random.PRNGKey(1)),
  )
  after, metrics = jax.jit(steps.update, static_argnums=5)(
    learner, model, known, hyper, jax.random.PRNGKey(2), 4
  )
  # The mean is (4 * 1 + 1 * -2) / 5, uphill; equal weights would go downhill.
  np.testing.assert_allclose(metrics['imagined/return'], 4.0, rtol=1e-6)
  assert metrics['nonfinite/rollouts'] == 3
  jax.tree.map(
    lambda new, old: np.testing.assert_allclose(
      new - old, config.learn.learning_rate, rtol=1e-2
    ),
    after.policy,
    learner.policy,
  )


def test_what_is_not_amortised_is_updated_with_the_context_of_its_task():
  """Three times, with two rollouts each."""
  config = tiny_config(
    policy__amortised=False,
    model__kind='mean',
    adaptation__num_updates=3,
    adaptation__num_rollouts=2,
  )

  def update(learner, model, known, hyper, key, num):
    assert num == 2 and known.mask.shape == (1, config.model.context_size)
    policy = learner.policy + jnp.sum(known.y * known.mask[..., None]) * model
    return learner._replace(policy=policy), {}

  adapt = adaptation.make(
    world(), config, policy_step.PolicyStep(lambda *_: None, update)
  )
  rollout = functools.partial(
    real.rollout,
    world(),
    policies.memoryless(
      lambda key: (),
      lambda params, obs: distributions.Gaussian(obs[..., :1], 0 * obs[:1, :1]),
      noise=functools.partial(distributions.normal_noise, action_size=1),
    ),
    (),
    num_envs=1,
    horizon=4,
  )
  learner = policy_step.Learner(jnp.float32(1.0), (), ())
  for seed in range(2):
    trajectory, _ = jax.jit(rollout)(jax.random.PRNGKey(seed))
    policy, context = adapt(learner, 2.0, trajectory, {}, jax.random.PRNGKey(0))
    change = world().change(trajectory.obs, trajectory.next_obs)
    np.testing.assert_allclose(policy, 1 + 3 * 2 * np.sum(change), rtol=1e-5)
    assert context == ()


@pytest.mark.parametrize('sign', [1, -1])
def test_ppo_in_the_model_learns_what_earns_there(sign, monkeypatch):
  """A model by hand, in which the third action alone reaches the goal.

  And the policy avoids it where the sign of the advantages is flipped.
  """
  config = tiny_config(
    env__name='acrobot',
    improve__kind='ppo',
    model_rollouts__horizon=4,
    learn__learning_rate=0.02,
  )
  env = envs.make('acrobot', 'terminating')
  made = policy_step.make_parts(env, config)

  def predict(
    model: Any, carry: Any, obs: jax.Array, action: jax.Array, key: Any
  ) -> Any:
    angle = jnp.where(action[:, 2] > 0, jnp.pi, 0.1)
    return carry, models.Prediction(jnp.zeros_like(obs).at[:, 0].set(angle))

  dynamics: Any = models.Dynamics(
    init=None,
    ready=None,
    start=lambda model, key, context, num: jnp.zeros(num),
    predict=predict,
    loss=None,
  )
  size = config.model.latent_size
  told = surrogate_lib.Latent(*(jnp.full(size, x) for x in (1.0, -9.0, 1.0)))
  surrogate = surrogate_lib.Surrogate(dynamics, lambda: None, lambda *_: told)
  judge = on_policy.judge

  def judged(*args: Any) -> Any:
    batch, metrics = judge(*args)
    return batch._replace(advantages=sign * batch.advantages), metrics

  monkeypatch.setattr(on_policy, 'judge', judged)
  steps = policy_step.make(env, config, made, surrogate)
  hyper = base.hyper(config)
  known = sets.Points(*map(jnp.ones, ((2, 1, 1), (2, 1, 1), (2, 1))))
  learner = policy_step.init(made, config.learn, hyper, jax.random.PRNGKey(0))

  def update(learner: Any, key: jax.Array) -> tuple[Any, jax.Array]:
    learner, metrics = steps.update(learner, (), known, hyper, key, 10)
    return learner, metrics['imagined/return']

  keys = jax.random.split(jax.random.PRNGKey(1), 30)
  _, returns = jax.jit(lambda: jax.lax.scan(update, learner, keys))()
  # At random, the goal is reached in a step with a probability of a third.
  random = -sum((2 / 3) ** t for t in range(1, 5))
  np.testing.assert_allclose(returns[0], random, atol=0.6)
  if sign > 0:
    assert np.mean(returns[-5:]) > -0.3
  else:
    assert np.mean(returns[-5:]) < -3.5


def test_a_task_that_is_told_is_refused():
  env = envs.make(WORLD, tell_task=True)
  with pytest.raises(shared.ConfigError, match=r'env\.tell_task=True'):
    gssm.make(env, tiny_config())


def test_rewards_of_a_hidden_task_are_refused_with_a_way_out():
  """Not with `tell_task`, which is refused as well."""
  env = envs.make('half_cheetah_fwd_bwd')
  with pytest.raises(envs.TaskError, match='must be a family whose') as caught:
    gssm.make(env, tiny_config())
  assert 'tell_task' not in str(caught.value)


def test_dropout_needs_a_hidden_layer():
  config = tiny_config(model__kind='dropout', model__decoder_sizes=())
  with pytest.raises(shared.ConfigError, match=r'model\.decoder_sizes=\(\)'):
    gssm.make(world(), config)


def test_the_policy_sees_features_divided_by_their_scales():
  scales = (1.0, 2.0, 0.5, 0.5, 4.0)
  plain, scaled = (
    policy_step.make_parts(world(), tiny_config(policy__feature_scales=x))
    for x in ((), scales)
  )
  obs = jnp.asarray([[0.1, -2.0, 1.0, 8.0]])
  seen = np.concatenate(
    [
      world().model_input(obs) / np.asarray([scales]),
      np.ones((1, plain.latent_size)),
    ],
    -1,
  )
  params = plain.seeing.init(jax.random.PRNGKey(0))

  def acts(parts: policy_step.Parts) -> jax.Array:
    policy, z = parts.acting, jnp.ones(parts.latent_size)
    carry = policy.start(params, jax.random.PRNGKey(0), z, 1)
    return policy.distribution(params, carry, obs).action

  policy = plain.seeing
  carry = policy.start(params, jax.random.PRNGKey(0), (), 1)
  expected = policy.distribution(params, carry, jnp.asarray(seen)).action
  np.testing.assert_allclose(acts(scaled), expected, rtol=1e-5)
  assert not np.allclose(acts(plain), expected, rtol=1e-2)


@pytest.mark.parametrize(
  ('untold', 'changes'),
  [pytest.param(0.0, True, marks=pytest.mark.slow), (1.0, False)],
)
def test_an_untold_policy_does_not_see_the_latent(run, untold, changes):
  """The model still knows the task; only what the policy is told is 0."""
  config = tiny_config(model_rollouts__untold=untold)
  made = policy_step.make_parts(world(), config)
  surrogate = surrogate_lib.make(world(), config.model)
  state = run.states[-1]
  data = contexts.of_buffer(state.buffer, world(), config.model)
  known = contexts.draw(data, state.task_index, jax.random.PRNGKey(0), count=5)
  assert np.any(known.mask > 0)

  def updated(encode: Any) -> Any:
    steps = policy_step.make(
      world(), config, made, surrogate._replace(encode=encode)
    )
    learner, _ = jax.jit(steps.update, static_argnums=5)(
      state.learners.best,
      jax.tree.map(lambda x: x[0], state.model),
      jax.tree.map(lambda x: x[None], known),
      state.hyper,
      jax.random.PRNGKey(1),
      4,
    )
    return learner.policy

  def far(*args: Any) -> Any:
    found = surrogate.encode(*args)
    return found._replace(mean=found.mean + 3.0)

  pairs = zip(
    jax.tree.leaves(updated(surrogate.encode)),
    jax.tree.leaves(updated(far)),
    strict=True,
  )
  assert any(bool(np.any(a != b)) for a, b in pairs) == changes


def learned(iterations: int) -> float:
  """Mean reward per step in test tasks, after 50 transitions of each."""
  config = runpy.run_path(str(PRESET))['get_config']()
  algorithm = gssm.make(world(), config)
  state = begun(algorithm, config)
  update = jax.jit(algorithm.update)
  for _ in range(iterations):
    state, _ = update(state)
  family = envs.family_of(world(), 'test')
  play = evaluate.make_evaluate_tasks(
    family,
    algorithm.policy,
    num_episodes=4,
    episode_length=25,
    adapt=algorithm.adapt,
    num_transitions=50,
  )
  params = algorithm.policy_params(state)
  found = play(params, family.test_tasks(), jax.random.PRNGKey(1), state)
  return float(jnp.mean(found.returns)) / 25


@pytest.mark.slow
def test_it_learns_to_swing_up_and_not_with_the_sign_flipped(monkeypatch):
  """A policy that hangs has -1 at every step.

  The seed is one whose first policy saturates, in the model of one episode: the
  one that is drawn after some iterations learns.
  """
  assert learned(15) > -0.9
  gradient = bptt.gradient

  def downhill(*args: Any, **kwargs: Any) -> Any:
    found, info = gradient(*args, **kwargs)
    return jax.tree.map(jnp.negative, found), info

  monkeypatch.setattr(bptt, 'gradient', downhill)
  assert learned(15) < -0.95
