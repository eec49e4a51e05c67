"""Steps and updates in turn: what is stored, when is learned, what is kept."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as shared
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms import rounds
from mbmpo_jax.algorithms import tally as tally_lib
from mbmpo_jax.objectives import q_learning
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.training import loop
from tests import fake
from tests import runs
from tests import tiny

STILL = policies.memoryless(
  lambda key: (),
  lambda params, obs: distributions.Deterministic(0 * obs),
  noise=functools.partial(distributions.normal_noise, action_size=2),
)


def make_config(name: str = 'sac', **overrides: Any) -> Any:
  values = {
    'env.name': 'point',
    'collect.num_envs': 2,
    'collect.steps_per_env': 12,
    'collect.episode_length': 5,
    'collect.buffer_capacity': 60,
    'collect.start_steps': 6,
    'policy.hidden_sizes': (4,),
    'critic.hidden_sizes': (4,),
    'learn.batch_size': 8,
    'run.chunk': 12,
    'run.num_iterations': 2,
    'run.eval_episodes': 2,
    'run.render': False,
  }
  return shared.replaced(algorithms.config(name)(), {**values, **overrides})


def collected(
  env: Any, policy: policies.Policy, config: Any, calls: int, num_steps: int
) -> off_policy.State:
  """What some calls of `collect` leave."""
  key, start_key = jax.random.split(jax.random.PRNGKey(0))
  world = off_policy.start(
    env, policy, (), start_key, section=config.collect, metrics=()
  )
  state = off_policy.State(
    counters=base.start_counters(key), hyper={}, learner=(), **world._asdict()
  )
  step = jax.jit(
    functools.partial(
      off_policy.collect,
      env=env,
      policy=policy,
      params=(),
      section=config.collect,
      num_steps=num_steps,
    )
  )
  for _ in range(calls):
    state = step(state)
  return state


def test_rows_say_how_episodes_ended_and_targets_follow():
  """Counting from 0 or 1 ends at 4, in 4 or 3 steps; time is up after 3."""
  config = make_config(**{'collect.episode_length': 3, 'collect.num_envs': 8})
  state = collected(tiny.Countdown(), tiny.NO_OP, config, 3, 1)
  rows = jax.tree.map(lambda x: np.asarray(x[:24]), state.buffer.data)
  # A row's successor is the count after it, also where a reset followed.
  np.testing.assert_array_equal(rows.next_obs, rows.obs + 1)
  last = rows.time == 2
  np.testing.assert_array_equal(last, np.arange(24) >= 16)
  np.testing.assert_array_equal(rows.terminated, rows.next_obs[:, 0] == 4)
  np.testing.assert_array_equal(rows.truncated, last & (rows.terminated == 0))
  assert rows.terminated.any() and rows.truncated.any()
  assert len(set(rows.episode)) == 8 == int(state.counters.episodes)
  # What is ahead of state s is worth 10 s.
  y = q_learning.bootstrapped(
    rows.reward, rows.terminated, 10 * rows.next_obs[:, 0], discount=0.5
  )
  ahead = np.where(rows.terminated, 0.0, 5 * rows.next_obs[:, 0])
  np.testing.assert_allclose(y, rows.obs[:, 0] + ahead)
  (cut,) = np.unique(y[rows.truncated == 1])
  (ended,) = np.unique(y[rows.terminated == 1])
  assert (cut, ended) == (2 + 0.5 * 30, 3)


def test_the_first_actions_are_random_then_the_policy_acts():
  config = make_config(**{'collect.start_steps': 6})
  state = collected(envs.make('point'), STILL, config, 4, 2)
  actions = np.asarray(state.buffer.data.action[:16])
  # Two environments, two steps a call: the second call still begins at 4.
  assert np.all(actions[:8] != 0) and np.all(actions[8:] == 0)
  assert int(state.counters.env_steps) == 16


def test_returns_of_episodes_that_span_calls():
  """Of those that ended; the same however the steps are cut into calls."""
  rng = np.random.default_rng(0)
  reward = rng.normal(size=(12, 3)).astype(np.float32)
  ended = (rng.uniform(size=(12, 3)) < 0.3).astype(np.float32)
  expected: list[tuple[float, int]] = []
  for n in range(3):
    total, length = 0.0, 0
    for t in range(12):
      total, length = total + reward[t, n], length + 1
      if ended[t, n]:
        expected.append((total, length))
        total, length = 0.0, 0
  for size in (1, 4, 12):
    sums, found = episodes.start(3), []
    for t in range(0, 12, size):
      sums, done = episodes.finished(
        sums, reward[t : t + size], ended[t : t + size]
      )
      found.append(done)
    returns, lengths = (np.concatenate(x) for x in zip(*found, strict=True))
    known = np.isfinite(returns.T)
    np.testing.assert_array_equal(known, ended.T > 0)
    np.testing.assert_allclose(
      np.stack([returns.T[known], lengths.T[known]], -1), expected, rtol=1e-5
    )


def remember(learner, hyper, batch, key):
  """An update that sums up the rewards that it is given."""
  del hyper, key
  after = {
    'updates': learner['updates'] + 1,
    'seen': learner['seen'] + jnp.sum(batch.reward),
  }
  return off_policy.Updated(
    after, {'loss': jnp.mean(batch.reward)}, jnp.isfinite(after['seen'])
  )


def scripted(config: Any) -> tuple[base.Phase, off_policy.State]:
  """The phase of an algorithm that only remembers, and its first state."""
  env = envs.make('point')

  def behave(state: Any) -> tuple[policies.Policy, Any]:
    return STILL, ()

  init = rounds.make_init(
    env,
    config.collect,
    lambda key, hyper: {'updates': jnp.zeros(()), 'seen': jnp.zeros(())},
    behave,
    ('loss',),
  )
  phase = rounds.phase(
    rounds.of_transitions(env, config, remember, behave), config
  )
  return phase, jax.jit(init)(jax.random.PRNGKey(0), base.hyper(config))


@pytest.mark.parametrize(
  ('start_steps', 'every', 'updates'),
  # Rounds end after 2, 4, .. 24 transitions, or after every 6th.
  [(6, 1, 3 * 9), (10, 1, 3 * 8), (0, 3, 3 * 3), (24, 1, 3)],
)
def test_learning_begins_with_enough_data(start_steps, every, updates):
  """That is, minibatches of 8, after `start_steps`."""
  config = make_config(
    **{
      'collect.start_steps': start_steps,
      'learn.update_every': every,
      'learn.num_updates': 3,
    }
  )
  phase, state = scripted(config)
  state, metrics = jax.jit(phase.function)(state)
  assert float(state.learner['updates']) == metrics['updates'] == updates
  assert metrics['nonfinite/updates'] == metrics[base.STUCK] == 0
  assert int(state.counters.iteration) == 1
  assert metrics['env_steps'] == metrics['real_steps'] == 24
  # Two episodes of five steps each have ended.
  assert metrics['real/length'] == 5


def test_an_update_that_is_not_finite_is_not_taken():
  phase, state = scripted(make_config(**{'learn.num_updates': 2}))
  program = jax.jit(phase.function)
  state, _ = program(state)
  data = state.buffer.data
  spoilt = data._replace(reward=jnp.full_like(data.reward, jnp.nan))
  after, metrics = program(
    state._replace(buffer=state.buffer._replace(data=spoilt))
  )
  # New rows are sound: a minibatch may be of these alone, but none of 8.
  assert metrics['updates'] + metrics['nonfinite/updates'] == 24
  assert metrics['nonfinite/updates'] > 20
  assert np.isfinite(after.learner['seen'])
  assert metrics[base.STUCK] == (metrics['updates'] == 0)


def test_minibatches_are_uniform_over_what_is_stored():
  config = make_config(
    **{'learn.num_updates': 50, 'learn.batch_size': 40, 'collect.num_envs': 5}
  )
  state = collected(envs.make('point'), STILL, config, 2, 1)
  section = config.learn
  batches, enough = off_policy.sample(
    state, jax.random.PRNGKey(0), section=section
  )
  assert not enough  # 10 rows, a minibatch of 40
  assert batches.obs.shape == (50, 40, 2)
  stored = np.asarray(state.buffer.data.obs[:10, 0])
  counts = [(batches.obs[..., 0] == x).sum() for x in stored]
  assert sum(counts) == 2000
  # 200 each, standard deviation 13.4.
  np.testing.assert_allclose(counts, 200, atol=60)


def test_tallies_leave_out_what_is_not_finite():
  tally = tally_lib.start(('loss', 'nonfinite/steps', 'count', 'never'))
  for value in (1.0, np.nan, np.inf, 3.0):
    tally = tally_lib.add(
      tally,
      {
        'loss': jnp.asarray(value),
        'nonfinite/steps': jnp.ones(2),
        'count': jnp.ones(()),
      },
    )
  summary = tally_lib.summary(tally, sums=('count',))
  assert summary['loss'] == 2
  assert summary['nonfinite/steps'] == 8 and summary['count'] == 4
  assert np.isnan(summary['never'])


@pytest.mark.parametrize(
  ('name', 'normalize'),
  [pytest.param('ddpg', False, marks=pytest.mark.slow), ('sac', True)],
)
def test_results_do_not_depend_on_the_chunk(name, normalize, tmp_path):
  """To the bit: all that a run saves and says, but for the chunk."""
  folders = []
  for chunk in (12, 1):
    config = make_config(
      name,
      **{'run.chunk': chunk, 'collect.normalize_observations': normalize},
    )
    folders.append(tmp_path / str(chunk))
    loop.train(config, folders[-1], progress=fake.progress_lib.Silent())
  for folder in folders[1:]:
    runs.assert_same(folder, folders[0])


@pytest.mark.slow
def test_a_run_goes_on_with_another_chunk(tmp_path):
  config = make_config(**{'run.num_iterations': 1})
  loop.train(config, tmp_path / 'a', progress=fake.progress_lib.Silent())
  more = shared.replaced(config, {'run.num_iterations': 2, 'run.chunk': 4})
  loop.train(more, tmp_path / 'a', progress=fake.progress_lib.Silent())
  whole = make_config()
  loop.train(whole, tmp_path / 'b', progress=fake.progress_lib.Silent())
  runs.assert_same(tmp_path / 'a', tmp_path / 'b')


def test_sections_say_how_much_is_drawn_at_once():
  with pytest.raises(shared.ConfigError, match='transitions are drawn at once'):
    make_config(
      **{'learn.num_updates': 10**6, 'learn.batch_size': 10**6}
    ).check()
  assert isinstance(make_config().run, off_policy_config.Run)
