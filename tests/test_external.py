"""Worlds that are not JAX, by a tiny one of Gymnasium's kind and a robot."""

import pathlib
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.envs import seen
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.training import external
from mbmpo_jax.training.external import acting
from mbmpo_jax.training.external import actions
from mbmpo_jax.training.external import gym
from mbmpo_jax.training.external import host
from mbmpo_jax.training.external import robot
from mbmpo_jax.training.external import task as task_lib
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_state
from tests import tiny

LOW, HIGH = (np.array(x, np.float32) for x in ([-2.0, 0.0], [2.0, 10.0]))


class Drift(gymnasium.Env):
  """x' = x + 0.1 (a1 / 2, a2 / 5 - 1): in units of [-1, 1], 0.1 a."""

  observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
  action_space = gymnasium.spaces.Box(LOW, HIGH)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.x = self.np_random.normal(size=2)
    return self.x.copy(), {}

  def step(self, action):
    assert self.action_space.contains(action)
    self.x = self.x + 0.1 * (action / np.array([2, 5]) - np.array([0, 1]))
    reward = -float(self.x @ self.x)
    return self.x.copy(), reward, bool(self.x[0] > 0.5), False, {}


class Choices(Drift):
  """The same, by one of three choices."""

  action_space = gymnasium.spaces.Discrete(3, start=1)

  def step(self, action):
    assert self.action_space.contains(action)
    self.x = self.x + 0.1 * (action - 2)
    return self.x.copy(), 1.0, bool(self.x[0] > 0.5), False, {}


def reward(obs, action, next_obs):
  return -jnp.sum(next_obs**2, -1)


def done(next_obs):
  return (next_obs[..., 0] > 0.5).astype(next_obs.dtype)


TASK = external.Task(reward, done)


def config(iterations: int = 3, **values) -> config_lib.Experiment:
  fields = {
    'collect.num_trajectories': 4,
    'collect.buffer_capacity': 200,
    'collect.episode_length': 10,
    'run.num_iterations': iterations,
    'run.render': False,
    **values,
  }
  return config_lib.replaced(tiny.point_config(), fields)


def train(folder: pathlib.Path, settings, make_env=Drift, task=TASK):
  return external.train(
    make_env,
    task,
    settings,
    folder,
    max_episode_steps=20,
    progress=progress_lib.Silent(),
  )


def saved(folder: pathlib.Path):
  return checkpoint.read_part(folder / 'checkpoints', ())


class Run(NamedTuple):
  folder: pathlib.Path
  row: dict[str, float]


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
  folder = tmp_path_factory.mktemp('external') / 'run'
  return Run(folder, train(folder, config()))


def test_a_run_is_counted_saved_and_drawn(run):
  assert run.row['env_steps'] == 3 * 40
  assert run.row['real_steps'] == 40
  assert run.row['real/other_reward'] == run.row['real/other_done'] == 0
  assert np.isfinite(run.row['eval/return_mean'])
  assert (run.folder / 'learning_curve.png').exists()
  state = saved_state.load_state(run.folder).state
  assert int(state.buffer.size) == 120
  data = state.buffer.data
  steps = slice(0, 120)
  # The buffer holds actions of [-1, 1], whatever the world's are.
  assert jnp.all(abs(data.action[steps]) <= 1)
  moved = data.next_obs[steps] - data.obs[steps]
  np.testing.assert_allclose(moved, 0.1 * data.action[steps], atol=1e-5)
  episodes = int(state.counters.episodes)
  assert int(jnp.sum(data.time[steps] == 0)) == episodes >= 12
  ended = data.terminated[steps] + data.truncated[steps]
  assert int(jnp.sum(ended)) == episodes
  np.testing.assert_array_equal(
    data.terminated[steps], data.next_obs[steps, 0] > 0.5
  )


def test_imagination_starts_where_real_episodes_did(run):
  state = saved_state.load_state(run.folder).state
  data = state.buffer.data
  first = data.obs[:120][np.asarray(data.time[:120] == 0)]
  found = int(state.model.starts.found[0])
  assert found == len(first)
  starts = state.model.starts.obs[0, :found]
  assert {tuple(x) for x in starts.tolist()} == {
    tuple(x) for x in first.tolist()
  }


@pytest.mark.slow
def test_a_run_goes_on_to_the_bit(run, tmp_path):
  train(tmp_path, config(1))
  train(tmp_path, config(3))
  (step, once), (again_step, again) = saved(run.folder), saved(tmp_path)
  assert step == again_step == 3
  jax.tree.map(np.testing.assert_array_equal, once, again)


def test_what_happens_depends_on_the_seed():
  world = gym.Gym(Drift, max_episode_steps=20)
  once, again, other = (
    world.collect(_random(), num=2, horizon=5, seed=seed)
    for seed in ([3, 0], [3, 0], [3, 1])
  )
  jax.tree.map(np.testing.assert_array_equal, once, again)
  assert np.all(once.obs[0] != other.obs[0])
  assert np.all(once.obs[0, 0] != once.obs[0, 1])


def test_the_policy_acts_and_is_evaluated_by_the_world(run):
  policy = saved_policy.load_policy(run.folder)
  assert policy.act(jnp.zeros(2)).shape == (2,)
  assert policy.make_env().observation_size == 2
  returns, lengths = external.evaluate(run.folder, Drift, episodes=3)
  again, _ = external.evaluate(run.folder, Drift, episodes=3)
  assert returns.shape == lengths.shape == (3,)
  assert lengths.max() <= 20
  np.testing.assert_array_equal(returns, again)
  with pytest.raises(elsewhere.ElsewhereError, match='cannot be reset or'):
    policy.make_env().reset(jax.random.PRNGKey(0))


@pytest.mark.slow
def test_choices_predicted_rewards_and_ends(tmp_path):
  row = train(tmp_path, config(2), Choices, external.Task())
  assert 0 <= row['model/done_accuracy'] <= 1
  state = saved_state.load_state(tmp_path).state
  rows = state.buffer.data.action[:80]
  assert jnp.all(jnp.sum(rows, -1) == 1) and jnp.all(jnp.max(rows, -1) == 1)
  model = state.model.inner
  assert model.layers[-1][1].shape == (2, 2 + 2)
  low, high = model.reward_low[0, 0], model.reward_high[0, 0]
  assert low <= 1 <= high


def test_a_robot_collects_episode_by_episode(tmp_path):
  lengths = []

  def collect(act, max_steps):
    world = Choices()
    (obs, _), rows = world.reset(seed=len(lengths)), []
    for _ in range(min(max_steps, 3)):
      action = act(obs)
      obs_before = obs
      obs, paid, over, _, _ = world.step(1 + int(action.argmax()))
      rows.append((obs_before, action, paid))
      if over:
        break
    lengths.append(len(rows))
    seen_obs, taken, paid = (list(x) for x in zip(*rows, strict=True))
    return external.Episode([*seen_obs, obs], taken, paid, over)

  machine = external.Robot(collect, 2, 3, max_episode_steps=20, discrete=True)
  row = train(tmp_path, config(2), machine, external.Task())
  assert row['env_steps'] == 80
  counters = saved_state.load_state(tmp_path).state.counters
  # The others were of the two evaluations, of four episodes or twice four.
  assert len(lengths) - int(counters.episodes) in (8, 12, 16)


def test_a_robot_that_does_not_keep_its_word_is_told_so():
  wrong = external.Episode(np.zeros((3, 2)), np.full((2, 1), 1.5), np.zeros(2))
  for episode, said in (
    (wrong, r'action \[1.5\]: must be within'),
    (wrong._replace(obs=np.zeros((2, 2))), r'obs of an episode of 2 steps'),
  ):
    world = robot.Episodes(
      external.Robot(lambda act, most, x=episode: x, 2, 1, 20)
    )
    behaviour = task_lib.Behaviour(_CONSTANT, (), jax.random.PRNGKey(0))
    with pytest.raises(external.WorldError, match=said):
      world.collect(behaviour, num=1, horizon=2, seed=[0])


# Its action is its parameter.
_CONSTANT = policies.memoryless(
  lambda key: jnp.zeros(2),
  lambda params, obs: distributions.Deterministic(
    jnp.broadcast_to(params, (obs.shape[0], 2))
  ),
  noise=lambda key, shape: None,
)


def _random() -> task_lib.Behaviour:
  return task_lib.Behaviour(_CONSTANT, (), jax.random.PRNGKey(0), random=True)


def test_each_environment_has_its_own_policy():
  world = gym.Gym(Drift, max_episode_steps=20)
  params = jnp.array([[1.0, 0.0], [-1.0, 0.5]])
  behaviour = task_lib.Behaviour(
    _CONSTANT, params, jax.random.PRNGKey(0), per_env=True
  )
  trajectory = world.collect(behaviour, num=2, horizon=4, seed=[0])
  moved = trajectory.next_obs - trajectory.obs
  expected = np.broadcast_to(0.1 * np.asarray(params)[None], moved.shape)
  np.testing.assert_allclose(moved, expected, atol=1e-6)
  # An episode that ended is followed by another.
  going_on = trajectory.ended[:-1] == 0
  np.testing.assert_array_equal(
    trajectory.next_obs[:-1][going_on], trajectory.obs[1:][going_on]
  )
  assert np.all(trajectory.truncated[-1] + trajectory.terminated[-1] == 1)
  world.close()


def test_a_memory_is_told_and_begins_anew():
  counting = policies.Policy(
    init=lambda key: (),
    start=lambda params, key, context, num: jnp.zeros(num),
    act=lambda params, carry, obs, noise: (
      carry + 1,
      policies.Action(carry[:, None], carry[:, None], carry),
    ),
    noise=lambda key, shape: None,
    observe=lambda params, carry, step: carry + 10 * step.reward,
  )
  behaviour = task_lib.Behaviour(counting, (), jax.random.PRNGKey(0))
  actor = acting.Acting(behaviour, envs.Box(1), 2)
  obs, zero = np.zeros((2, 1)), np.zeros(2)
  seen_actions = []
  for ended in ([0, 0], [0, 1], [0, 0]):
    _, action = actor.act(obs)
    seen_actions.append(action[:, 0].tolist())
    actor.tell(obs, action, zero + 1, obs, zero, np.array(ended, float))
  assert seen_actions == [[0, 0], [11, 11], [22, 0]]


@pytest.mark.parametrize(
  'space',
  [
    gymnasium.spaces.Box(LOW, HIGH),
    gymnasium.spaces.Box(-3, 5, (2, 2), np.float64),
    gymnasium.spaces.Discrete(4, start=-1),
  ],
)
def test_actions_go_to_the_world_and_back(space):
  scaling = actions.make(space, 'it')
  kind = envs.Discrete if scaling.discrete else envs.Box
  ours = kind(scaling.size).sample(jax.random.PRNGKey(0), (50,))
  theirs = scaling.to_world(np.asarray(ours))
  assert all(space.contains(x) for x in theirs)
  np.testing.assert_allclose(scaling.from_world(theirs), ours, atol=1e-6)
  if not scaling.discrete:
    bounds = scaling.to_world(np.stack([-np.ones(scaling.size)] * 2))
    np.testing.assert_array_equal(bounds[0], space.low)
    np.testing.assert_array_equal(
      scaling.to_world(np.full((1, scaling.size), 7.0))[0], space.high
    )


def _with(**spaces):
  return lambda: type('Odd', (Drift,), spaces)()


@pytest.mark.parametrize(
  ('make_env', 'said'),
  [
    (
      _with(action_space=gymnasium.spaces.Box(-np.inf, np.inf, (2,))),
      'must be finite',
    ),
    (
      _with(action_space=gymnasium.spaces.MultiDiscrete([2, 2])),
      'must be a Box or a Discrete',
    ),
    (
      _with(action_space=gymnasium.spaces.Box(0, 9, (2,), np.int32)),
      'must be floats',
    ),
    (
      _with(observation_space=gymnasium.spaces.Discrete(4)),
      'must be a Box; wrap it',
    ),
    (lambda: 3, 'must be a gymnasium.Env'),
  ],
)
def test_worlds_that_cannot_be_used_are_refused(make_env, said):
  with pytest.raises(external.WorldError, match=said) as error:
    gym.Gym(make_env, max_episode_steps=20)
  assert '\n' not in str(error.value)


def test_a_world_without_a_time_limit_is_refused():
  with pytest.raises(external.WorldError, match='max_episode_steps'):
    gym.Gym(Drift)


@pytest.mark.parametrize(
  ('task', 'said'),
  [
    (external.Task('learned'), "reward='learned': must be"),
    (external.Task(lambda obs, action, next_obs: obs, done), 'task.reward: re'),
    (external.Task(reward, lambda obs: obs[0, 0, 0]), 'task.done: cannot be'),
  ],
)
def test_tasks_that_cannot_be_imagined_are_refused(task, said, tmp_path):
  with pytest.raises(external.WorldError, match=said) as error:
    train(tmp_path / 'run', config(), task=task)
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name', ['ppo', 'trpo', 'sac', 'ddpg'])
def test_algorithms_that_step_while_they_learn_are_refused(name, tmp_path):
  settings = algorithms.config(name)()
  settings.collect.episode_length = 10
  with pytest.raises(config_lib.ConfigError, match='collects whole episodes'):
    train(tmp_path, settings)
  with pytest.raises(config_lib.ConfigError, match='models do not predict'):
    train(tmp_path, settings, task=external.Task())


def test_steps_that_the_task_says_otherwise_of_are_counted(run):
  config, _, state, _ = saved_state.load_state(run.folder)
  counters = state.counters._replace(iteration=jnp.int32(0))
  world = gym.Gym(Drift, max_episode_steps=20)
  for task, expected in (
    (TASK, (0, 0)),
    (TASK._replace(reward=lambda *step: reward(*step) + 1), (40, 0)),
    (TASK._replace(done=None), (0, None)),
  ):
    env = task_lib.environment(world.sizes, task)
    algorithm = algorithms.make('mbmpo', env, config, check=False)
    collect = host.make(world, env, config, algorithm).phases['collect']
    state = jax.tree.map(jnp.copy, state._replace(counters=counters))
    state, metrics = collect(state)
    ended = int(jnp.sum(state.buffer.data.terminated[120:160]))
    assert ended > 0
    assert metrics['real/other_reward'] == expected[0]
    assert metrics['real/other_done'] == (
      ended if expected[1] is None else expected[1]
    )
    state = saved_state.load_state(run.folder).state


def _world(reward_fn, model_input=None) -> envs.Elsewhere:
  return envs.Elsewhere(
    observation_size=3,
    action_space=envs.Box(1),
    max_episode_steps=10,
    reward=reward_fn,
    done=None,
    model_input=model_input,
  )


@pytest.mark.parametrize(
  'reward_fn',
  [
    lambda obs, action, next_obs: next_obs[..., 2],
    lambda obs, action, next_obs: jnp.tanh(2 * next_obs[..., 2]) - 1,
    lambda obs, action, next_obs: next_obs[..., 2] - jnp.sum(action**2, -1),
  ],
)
def test_a_reward_of_what_models_do_not_see_is_refused(reward_fn):
  hides = _world(reward_fn, lambda obs: obs[..., :2])
  with pytest.raises(envs.ContractError, match='dimension 2 of the obs'):
    seen.check_reward(hides)
  seen.check_reward(_world(reward_fn))
  settings = config()
  with pytest.raises(envs.ContractError, match=r'model\.predict_reward'):
    algorithms.make('mbmpo', hides, settings, check=False)


@pytest.mark.parametrize(
  'reward_fn',
  [
    # How far a hidden position moves; what is seen besides; nothing.
    lambda obs, action, next_obs: next_obs[..., 2] - obs[..., 2],
    lambda obs, action, next_obs: next_obs[..., 1] - next_obs[..., 2] ** 2,
    lambda obs, action, next_obs: -jnp.sum(action**2, -1),
  ],
)
def test_a_reward_of_what_models_see_passes(reward_fn):
  seen.check_reward(_world(reward_fn, lambda obs: obs[..., :2]))


def test_the_algorithm_has_what_an_embedder_needs(run):
  """`adapt` is public: real data in, an adapted policy out."""
  _, algorithm, state, _ = saved_state.load_state(run.folder)
  behaviour = task_lib.Behaviour(
    algorithm.policy, algorithm.policy_params(state), jax.random.PRNGKey(1)
  )
  world = gym.Gym(Drift, max_episode_steps=20)
  trajectory = world.collect(behaviour, num=4, horizon=5, seed=[0])
  adapt = jax.jit(algorithm.adapt)
  params, context = adapt(state, trajectory, jax.random.PRNGKey(2))
  changed = jax.tree.map(
    lambda a, b: bool(jnp.any(a != b)), params, state.policy
  )
  assert any(jax.tree.leaves(changed)) and context == ()
