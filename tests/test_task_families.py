"""Task families: whose task is whose, when it changes, and who is told."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.envs import base
from mbmpo_jax.envs import cartpole_swingup
from mbmpo_jax.envs import families
from mbmpo_jax.envs import tasked
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate
from mbmpo_jax.training import evaluate_tasks
from mbmpo_jax.training import loop
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_state
from tests import tiny

_FAMILIES = ('acrobot', 'cartpole_swingup_masses', 'point_direc')


def _keys(seed, num):
  return jax.random.split(jax.random.PRNGKey(seed), num)


def _random(action_size):
  return policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Gaussian(
      jnp.zeros((*obs.shape[:-1], action_size)), jnp.zeros((1, action_size))
    ),
    noise=functools.partial(
      distributions.normal_noise, action_size=action_size
    ),
  )


def _rollout(env, *, num_envs=6, horizon=60, time_limit=None):
  trajectory, running = jax.jit(
    lambda key: real.rollout(
      env,
      _random(env.action_size),
      (),
      key,
      num_envs=num_envs,
      horizon=horizon,
      time_limit=time_limit,
    )
  )(jax.random.PRNGKey(0))
  return jax.tree.map(np.asarray, trajectory), running


def _reset(env, keys):
  return jax.jit(jax.vmap(env.reset))(keys)


def _rows(tree):
  """Leaves [M, ...] of tasks, as rows."""
  return np.stack([np.asarray(leaf) for leaf in jax.tree.leaves(tree)], -1)


@pytest.mark.parametrize('name', _FAMILIES)
def test_each_instance_draws_a_task_of_its_own(name):
  family = envs.family(name)
  env = envs.make(name)
  assert isinstance(env, envs.Tasked) and type(env.family) is type(family)
  state = _reset(env, _keys(0, 400))
  drawn = _rows(jax.vmap(env.task)(state.pipeline_state))
  low, high = (_rows(limit) for limit in family.trained_range())
  assert np.all((drawn >= low[None]) & (drawn <= high[None]))
  for column, least, most in zip(drawn.T, low, high, strict=True):
    distinct = len(np.unique(column))
    assert distinct == 2 if name == 'point_direc' else distinct > 390
    middle, width = (least + most) / 2, most - least
    np.testing.assert_allclose(np.mean(column), middle, atol=width / 12)
    assert np.ptp(column) > 0.95 * width
  assert not families.outside_trained_range(family, family.test_tasks())


@pytest.mark.parametrize('name', _FAMILIES)
def test_test_tasks_are_the_same_always(name):
  tasks = envs.family(name).test_tasks()
  number = {'acrobot': 35, 'cartpole_swingup_masses': 50, 'point_direc': 2}
  assert families.count(tasks) == number[name]
  again = jax.jit(envs.family(name).test_tasks)()
  np.testing.assert_allclose(_rows(again), _rows(tasks), rtol=1e-6)
  assert len(np.unique(_rows(tasks), axis=0)) == number[name]


def test_a_task_is_held_for_an_episode_and_the_next_has_another():
  env = envs.make('cartpole_swingup_masses', tell_task=True)
  trajectory, _ = _rollout(env, horizon=40, time_limit=10)
  told, next_told = trajectory.obs[..., 4:], trajectory.next_obs[..., 4:]
  np.testing.assert_array_equal(told, next_told)
  changed = np.any(told[1:] != told[:-1], axis=-1)
  np.testing.assert_array_equal(changed, trajectory.truncated[:-1] > 0)
  assert changed.sum() == 6 * 3
  assert len(np.unique(told, axis=0).reshape(-1, 2)) > 3


def test_a_switched_task_changes_every_period_and_is_paid_by():
  """The reward by NumPy, of the direction told at the step's beginning."""
  env = envs.make('point_direc', switch_period=7, tell_task=True)
  trajectory, running = _rollout(env)
  told = trajectory.obs[..., 2]
  number = np.arange(60) // 7
  expected = told[:1] * np.where(number % 2, -1, 1)[:, None]
  np.testing.assert_array_equal(told, expected)
  assert set(told[0]) == {-1, 1}
  moved = trajectory.next_obs[..., 0] - trajectory.obs[..., 0]
  np.testing.assert_allclose(
    trajectory.reward, told * moved / 0.1, rtol=1e-5, atol=1e-5
  )
  np.testing.assert_array_equal(running.env.pipeline_state.time, 60)


def test_by_default_the_direction_turns_and_doing_nothing_pays_nothing():
  env = envs.make('point_direc')
  assert (env.schedule, env.switch_period, env.max_episode_steps) == (
    'switch', 20, 60,
  )  # fmt: skip
  state = jax.jit(env.reset)(jax.random.PRNGKey(0))
  first = env.task(state.pipeline_state)
  step = jax.jit(env.step)
  rewards = []
  for _ in range(60):
    rewards.append(float(step(state, jnp.zeros(2)).reward))
    state = step(state, jnp.asarray([1.0, 0.3]))
    rewards.append(float(state.reward * first))
  assert not any(rewards[::2])
  expected = np.repeat([1, -1, 1], 20)
  np.testing.assert_allclose(rewards[1::2], expected, rtol=1e-4)


def test_a_body_that_changes_within_an_episode_goes_on_from_where_it_is():
  env = envs.make(
    'cartpole_swingup_masses', schedule='switch', switch_period=10
  )
  state = jax.jit(env.reset)(jax.random.PRNGKey(3))
  tasks = state.pipeline_state.tasks
  assert len(np.unique(tasks.cart_mass)) == env.tasks_per_episode == 3
  step = jax.jit(env.step)
  for time in range(25):
    masses = (float(mass[time // 10]) for mass in tasks)
    world = cartpole_swingup.CartpoleSwingup(*masses)
    action = jnp.sin(jnp.asarray([time], float))
    expected = world.advance(state.obs, action)
    state = step(state, action)
    np.testing.assert_allclose(state.obs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', _FAMILIES)
def test_the_task_is_hidden_unless_told(name):
  hidden, told = envs.make(name), envs.make(name, tell_task=True)
  size, family = hidden.observation_size, told.family
  assert size == family.nominal.observation_size
  assert told.observation_size == size + family.task_size
  states = [_reset(env, _keys(0, 5)) for env in (hidden, told)]
  steps = [jax.jit(jax.vmap(env.step)) for env in (hidden, told)]
  for _ in range(3):
    vectors = jax.vmap(lambda s: family.vector(told.task(s)))(
      states[1].pipeline_state
    )
    np.testing.assert_array_equal(states[1].obs[:, size:], vectors)
    for part in ('obs', 'reward', 'done'):
      a, b = (np.asarray(getattr(state, part)) for state in states)
      b = b[:, :size] if part == 'obs' else b
      np.testing.assert_array_equal(a, b)
    actions = jax.random.normal(jax.random.PRNGKey(1), (5, told.action_size))
    states = [
      step(state, actions) for step, state in zip(steps, states, strict=True)
    ]
  seen = jax.eval_shape(told.model_input, states[1].obs)
  unseen = jax.eval_shape(hidden.model_input, states[0].obs)
  assert seen.shape[1] == unseen.shape[1] + family.task_size


@pytest.mark.parametrize('tell_task', [False, True])
@pytest.mark.parametrize('name', _FAMILIES)
def test_a_traced_task_that_is_held_gives_the_same_numbers(name, tell_task):
  env = envs.make(name, schedule='episode', tell_task=tell_task)
  keys = _keys(1, 4)
  actions = jax.random.normal(jax.random.PRNGKey(2), (10, 4, env.action_size))

  def follow(step, state):
    def advance(state, action):
      state = step(state, action)
      return state, (state.obs, state.reward, state.done)

    return jax.lax.scan(advance, state, actions)[1]

  @jax.jit
  def both():
    state = jax.vmap(env.reset)(keys)
    tasks = jax.vmap(env.task)(state.pipeline_state)

    def step(task, state, action):
      held = envs.fixed(env.family, task, tell_task=tell_task)
      assert held.observation_size == env.observation_size
      return held.step(state, action)

    held = follow(
      lambda state, action: jax.vmap(step)(tasks, state, action),
      state.replace(pipeline_state=state.pipeline_state.state),
    )
    return follow(jax.vmap(env.step), state), held

  drawn, held = both()
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    held,
    drawn,
  )


def test_rewards_that_all_tasks_share_need_no_task():
  env = envs.make('cartpole_swingup_masses')
  nominal = cartpole_swingup.CartpoleSwingup()
  obs = jax.random.normal(jax.random.PRNGKey(0), (2, 3, 4))
  assert env.reward_is_known and env.done_is_known
  np.testing.assert_array_equal(
    env.reward(obs, obs[..., :1], obs), nominal.reward(obs, obs, obs)
  )
  envs.require_known(env, 'mbmpo')


def test_a_reward_by_a_hidden_task_is_refused_and_by_a_told_one_is_read():
  env = envs.make('point_direc')
  obs = jax.random.normal(jax.random.PRNGKey(0), (2, 3, 3))
  message = r'Directions.reward: depends on the task.*env\.tell_task'
  with pytest.raises(envs.TaskError, match=message):
    env.reward(obs[..., :2], obs[..., :2], obs[..., :2])
  with pytest.raises(envs.TaskError, match=r'reward depends on .* for mbmpo'):
    envs.require_known(env, 'mbmpo')
  assert not np.any(env.done(obs[..., :2]))

  told = envs.make('point_direc', tell_task=True)
  envs.require_known(told, 'mbmpo')
  next_obs = obs + 1
  reward = told.reward(obs, obs[..., :2], next_obs)
  np.testing.assert_allclose(reward, 10 * np.asarray(obs[..., 2]), rtol=1e-4)
  assert told.done(obs).shape == (2, 3)


class _Parts(NamedTuple):
  limit: jax.Array  # int32 []
  weights: jax.Array  # [2]


class _Counting(tiny.Countdown):
  def __init__(self, limit=4, weights=(1.0, 1.0), scale=1.0):
    self.limit, self.weights, self.scale = limit, weights, scale

  def reward(self, obs, action, next_obs):
    return self.scale * obs[..., 0] * self.weights[0] + self.weights[1]


class Counters(families.Family):
  """Tasks of an integer and two numbers; something is prepared of them."""

  nominal = _Counting()
  rewards_by_task = ends_by_task = True

  def trained_range(self):
    low = _Parts(jnp.asarray(3), jnp.zeros(2))
    return low, _Parts(jnp.asarray(5), jnp.asarray([1.0, 2.0]))

  def sample_task(self, rng, split='train'):
    limit_rng, rng = jax.random.split(rng)
    weights = super().sample_task(rng).weights
    more = 10 if split == 'test' else 0
    return _Parts(jax.random.randint(limit_rng, (), 3, 6) + more, weights)

  def prepare(self, task):
    return jnp.sum(task.weights)

  def world(self, task, prepared):
    return _Counting(task.limit, task.weights, prepared)

  def describe(self, task):
    return f'up to {task.limit}'


def test_tasks_of_integers_and_arrays_and_what_is_prepared_of_them():
  family = Counters()
  sample = jax.jit(family.sample_task)
  for seed in range(3):
    task = sample(jax.random.PRNGKey(seed))
    vector = family.vector(task)
    assert vector.shape == (family.task_size,) == (3,)
    back = family.from_vector(vector + 0.1)
    assert back.limit.dtype == task.limit.dtype and back.limit == task.limit
    np.testing.assert_allclose(back.weights, task.weights + 0.1, rtol=1e-6)
  env = envs.Tasked(family, schedule='switch', switch_period=30)
  state = _reset(env, _keys(0, 3)).pipeline_state
  np.testing.assert_allclose(state.prepared, state.tasks.weights.sum(-1))
  assert state.prepared.shape == (3, 4)


@pytest.mark.parametrize('tell_task', [False, True])
def test_a_termination_and_a_reward_by_task_keep_the_contract(tell_task):
  envs.check_environment(envs.Tasked(Counters(), tell_task=tell_task))
  task = Counters().sample_task(jax.random.PRNGKey(0))
  envs.check_environment(envs.fixed(Counters(), task, tell_task=tell_task))


def test_the_split_says_which_tasks_are_drawn_and_what_is_outside_is_named():
  family = Counters()
  env = envs.Tasked(family, split='test')
  state = _reset(env, _keys(0, 20)).pipeline_state
  assert np.all(state.tasks.limit >= 13)
  tasks = jax.tree.map(lambda leaf: leaf[:, 0], state.tasks)
  assert families.outside_trained_range(family, tasks) == list(range(20))
  line = families.warning_outside(family, tasks)
  assert line.startswith('20 of 20 tasks are outside the trained range, up to')
  first = family.describe(families.at(tasks, 0))
  assert line.endswith(f'the first is task 0: {first}')
  inside = jax.jit(jax.vmap(family.sample_task))(_keys(0, 20))
  assert families.warning_outside(family, inside) is None
  mixed = inside._replace(weights=inside.weights.at[4, 1].set(2.1))
  assert families.outside_trained_range(family, mixed) == [4]
  nan = inside._replace(weights=inside.weights.at[7, 0].set(jnp.nan))
  assert families.outside_trained_range(family, nan) == [7]


def test_words_for_people():
  assert [
    envs.family(name).describe(
      families.at(envs.family(name).trained_range()[1], ...)
    )
    for name in _FAMILIES
  ] == [
    'links 1.2 kg and 1.2 kg',
    'cart 2 kg, pole 1 kg',
    'to the right',
  ]


def _section(**values) -> config_lib.Env:
  return config_lib.Env(**values)


def test_a_configuration_says_what_tasks_there_are():
  env = envs.from_config(_section(name='point_direc'), episode_length=40)
  assert (env.schedule, env.switch_period) == ('switch', 20)
  section = _section(
    name='acrobot',
    variant='terminating',
    tasks='switch',
    switch_period=50,
    tell_task=True,
  )
  env = envs.from_config(section, episode_length=200)
  assert (env.schedule, env.switch_period) == ('switch', 50)
  assert env.tell_task and env.can_terminate and env.split == 'train'
  assert envs.is_own(env)
  assert not isinstance(envs.from_config(_section(name='point')), envs.Tasked)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (
      dict(name='point_direc', tasks='switch', switch_period=60),
      'env.switch_period=60: must be < 60, the length of an episode',
    ),
    (
      dict(name='half_cheetah_fwd_bwd'),
      'env.switch_period=300: must be < 60, the length of an episode',
    ),
    (
      dict(name='acrobot', tasks='switch'),
      'env.switch_period=300: must be < 60, the length of an episode',
    ),
    (
      dict(name='acrobot', switch_period=20),
      "env.switch_period=20: must be 0 unless env.tasks='switch'",
    ),
    (
      dict(name='point', tell_task=True),
      "env.tell_task=True: must be False: env.name='point' has no tasks",
    ),
    (
      dict(name='half_cheetah', tasks='episode'),
      "env.tasks='episode': must be None: env.name='half_cheetah' has no",
    ),
    (
      dict(name='point', switch_period=3),
      "env.switch_period=3: must be 0: env.name='point' has no tasks",
    ),
    (
      dict(name='acrobot', physics='warp'),
      "env.physics='warp': must be 'mjx' for env.name='acrobot'",
    ),
    (
      dict(name='acrobot', variant='soft'),
      "env.variant='soft': must be one of absorbing, terminating",
    ),
  ],
)
def test_a_configuration_that_does_not_fit_is_one_line(values, message):
  with pytest.raises(config_lib.ConfigError) as caught:
    envs.from_config(_section(**values), episode_length=60)
  assert message in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('ask', 'message'),
  [
    (lambda: envs.family('point'), "env.name='point': has no tasks"),
    (lambda: envs.make('point', split='test'), "split='test': must be left"),
    (
      lambda: envs.make('acrobot', split='tests'),
      "split='tests': must be one of train, test",
    ),
    (
      lambda: envs.make('acrobot', schedule='never'),
      "schedule='never': must be one of episode, switch",
    ),
    (
      lambda: envs.make('acrobot', switch_period=0),
      'switch_period=0: must be an int >= 1',
    ),
    (
      lambda: envs.family_of(envs.make('point'), 'pearl'),
      'env: Point has no task parameters: .* for pearl',
    ),
  ],
)
def test_what_is_asked_of_no_tasks_is_one_line(ask, message):
  with pytest.raises(envs.TaskError, match=message):
    ask()


def test_the_family_of_an_environment():
  env = envs.make('acrobot')
  assert envs.family_of(env, 'pearl') is env.family
  held = envs.fixed(env.family, env.family.sample_task(jax.random.PRNGKey(0)))
  assert envs.family_of(held, 'pearl') is env.family
  assert isinstance(held, tasked.Fixed) and isinstance(held, base.Environment)


_WALK = policies.memoryless(
  lambda key: jnp.ones(()),
  lambda params, obs: distributions.Deterministic(
    params * jnp.ones((*obs.shape[:-1], 2))
  ),
  noise=lambda key, shape: jnp.zeros((*shape, 2)),
)


def test_evaluation_is_by_task_and_adapts_to_what_it_saw_of_each():
  family = envs.family('point_direc')
  tasks = jnp.asarray([-1.0, 1.0, -0.5])

  def adapt(state, trajectory, key):
    assert trajectory.reward.shape == (7, 1)
    return state * jnp.sign(jnp.mean(trajectory.reward)), ()

  for options, expected in (
    ({}, [-30, 30, -15]),
    (dict(adapt=adapt, num_transitions=7), [15, 15, 7.5]),
  ):
    run = evaluate.make_evaluate_tasks(
      family, _WALK, num_episodes=3, episode_length=30, **options
    )
    found = run(jnp.ones(()), tasks, jax.random.PRNGKey(0), jnp.asarray(0.5))
    np.testing.assert_allclose(found.returns, expected, rtol=1e-4)
    np.testing.assert_array_equal(found.lengths, [30, 30, 30])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  config = tiny.point_config(run__num_iterations=1, run__eval_episodes=2)
  config.env.name = 'cartpole_swingup_masses'
  config.env.tell_task = True
  root = tmp_path_factory.mktemp('trained')
  loop.train(config, root)
  return root


@pytest.mark.slow
def test_a_saved_policy_over_the_test_tasks(trained, monkeypatch):
  policy = saved_policy.load_policy(trained, 'latest')
  assert policy.make_env().tell_task
  key = jax.random.PRNGKey(0)
  say = functools.partial(
    evaluate_tasks.on_tasks, trained, policy, key, num_episodes=2
  )
  assert say().startswith('50 test tasks, 2 episodes of each: return -')
  adapted = say(context=5)
  assert 'tasks, adapted to 5 transitions of each, 2 episodes' in adapted
  assert adapted.endswith('std over tasks; length 10')

  named = (
    '1 of 2 tasks are outside the trained .* the first is task 1: cart 3 kg'
  )
  with pytest.warns(UserWarning, match=named):
    given = say(given='1.5,0.8;3,0.8', greedy=True)
  assert given.startswith('2 tasks (1.5,0.8;3,0.8), 2 episodes of each')

  saved = saved_state.load_state(trained)
  assert saved.iteration == 1 and saved.state.counters.env_steps == 40
  jax.tree.map(
    np.testing.assert_array_equal,
    saved.algorithm.policy_params(saved.state),
    policy.params,
  )
  monkeypatch.setattr(
    saved_state,
    'load_state',
    lambda root: saved._replace(algorithm=saved.algorithm._replace(adapt=None)),
  )
  message = "--context=5: must be left out: algorithm 'mbmpo' has no adaptation"
  with pytest.raises(config_lib.ConfigError, match=message):
    say(context=5)


@pytest.mark.parametrize('given', ['1.5', '1,2;3', 'tset', '1,x', '1,nan', ''])
def test_numbers_that_are_no_task_are_one_line(given):
  family = envs.family('cartpole_swingup_masses')
  message = f"--tasks={given}: must be 'test', or tasks of 2 numbers each, as"
  with pytest.raises(config_lib.ConfigError, match=message) as error:
    evaluate_tasks._tasks(family, given)
  assert '\n' not in str(error.value)
  np.testing.assert_allclose(
    family.vector(
      jax.tree.map(
        lambda x: x[1], evaluate_tasks._tasks(family, '1.5,0.8;1,0.75')
      )
    ),
    [1, 0.75],
  )


@pytest.mark.parametrize('given', ['-1,0.8', '1,0.8;1,0'])
def test_a_mass_must_be_positive(given):
  family = envs.family('cartpole_swingup_masses')
  with pytest.raises(config_lib.ConfigError, match='must be > 0'):
    evaluate_tasks._tasks(family, given)


def test_test_tasks_of_a_world_without_any_are_one_line(tmp_path):
  policy = saved_policy.SavedPolicy(tiny.point_config(), (), 1, _WALK)
  with pytest.raises(config_lib.ConfigError, match="'point' has no tasks"):
    evaluate_tasks.on_tasks(
      tmp_path, policy, jax.random.PRNGKey(0), num_episodes=2
    )
