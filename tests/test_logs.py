"""Logs: files of three layouts, what is found in them, learning from them."""

import functools
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax.training import external
from mbmpo_jax.training import logs
from mbmpo_jax.training import loop
from mbmpo_jax.training.external import task as task_lib
from mbmpo_jax.training.launch import log_flags
from mbmpo_jax.training.logs import diagnosis_report
from mbmpo_jax.training.logs import log as log_lib
from mbmpo_jax.training.logs import offline
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_state
from tests import runs
from tests import tiny

_ROOT = pathlib.Path(__file__).parents[1]
_LENGTHS = (9, 30, 14, 22, 25)
_ROWS = sum(_LENGTHS)


def _arrays(lengths=_LENGTHS, size=2) -> dict[str, np.ndarray]:
  """x' = x + 0.1 a, in episodes of these lengths; the third one terminates."""
  random = np.random.default_rng(0)
  count = sum(lengths)
  actions = random.uniform(-1, 1, (count, size))
  last = np.zeros(count, bool)
  last[np.cumsum(lengths) - 1] = True
  obs, state = [], random.normal(size=size)
  for action, ends in zip(actions, last, strict=True):
    obs.append(state)
    state = random.normal(size=size) if ends else state + 0.1 * action
  obs = np.array(obs)
  following = obs + 0.1 * actions
  terminals = last & (np.cumsum(last) - last == 2)
  return dict(
    observations=obs,
    actions=actions,
    rewards=-np.sum(following**2, -1),
    next_observations=following,
    terminals=terminals,
    timeouts=last & ~terminals,
  )


def _npz(path: pathlib.Path, **arrays) -> pathlib.Path:
  np.savez(path, **arrays)
  return path


def _d4rl(path: pathlib.Path, **arrays) -> pathlib.Path:
  with h5py.File(path, 'w') as file:
    for name, array in arrays.items():
      file.create_dataset(name, data=array)
    file.create_dataset('metadata/algorithm', data='none')
  return path


def _minari(root: pathlib.Path, **arrays) -> pathlib.Path:
  """As Minari lays it out: L + 1 observations, episode by episode."""
  data = root / 'data'
  data.mkdir(parents=True)
  last = arrays['terminals'] | arrays['timeouts']
  ends = np.append(0, np.flatnonzero(last) + 1)
  with h5py.File(data / 'main_data.hdf5', 'w') as file:
    for index, (begin, end) in enumerate(itertools.pairwise(ends)):
      own = slice(begin, end)
      group = file.create_group(f'episode_{index}')
      group['observations'] = np.append(
        arrays['observations'][own],
        arrays['next_observations'][end - 1 : end],
        0,
      )
      group['actions'] = 3 * arrays['actions'][own]
      group['rewards'] = arrays['rewards'][own]
      group['terminations'] = arrays['terminals'][own]
      group['truncations'] = arrays['timeouts'][own]
  space = dict(
    type='Box', dtype='float32', shape=[2], low=[-3, -3], high=[3, 3]
  )
  metadata = dict(data_format='hdf5', action_space=json.dumps(space))
  (data / 'metadata.json').write_text(json.dumps(metadata))
  return root


def _check(path, actions=None) -> logs.Checked:
  return logs.check(logs.read(path), actions)


@pytest.mark.parametrize('layout', ['npz', 'd4rl', 'minari'])
def test_three_layouts_are_one_log(layout, tmp_path):
  arrays = _arrays()
  if layout == 'npz':
    path = _npz(tmp_path / 'log.npz', **arrays)
  elif layout == 'd4rl':
    path = _d4rl(tmp_path / 'log.hdf5', **arrays)
  else:
    path = _minari(tmp_path / 'drift-v0', **arrays)
  checked = _check(path)
  assert checked.findings == [] and checked.has_reward
  log = checked.log
  assert (log.size, log.num_episodes) == (_ROWS, len(_LENGTHS))
  rows = log.rows
  np.testing.assert_allclose(rows.obs, arrays['observations'], atol=1e-6)
  np.testing.assert_allclose(rows.action, arrays['actions'], atol=1e-6)
  np.testing.assert_allclose(
    rows.next_obs, arrays['next_observations'], atol=1e-6
  )
  np.testing.assert_array_equal(rows.terminated, arrays['terminals'])
  np.testing.assert_array_equal(rows.truncated, arrays['timeouts'])
  expected = np.concatenate([np.arange(n) for n in _LENGTHS])
  np.testing.assert_array_equal(rows.time, expected)
  assert log.high.tolist() == [3, 3] if layout == 'minari' else [1, 1]


def test_next_observations_that_are_missing_are_the_next_rows(tmp_path):
  """But for those at the end of an episode, which nobody has written down."""
  arrays = _arrays()
  following = arrays.pop('next_observations')
  checked = _check(_d4rl(tmp_path / 'log.hdf5', **arrays))
  last = arrays['terminals'] | arrays['timeouts']
  assert checked.log.size == _ROWS - len(_LENGTHS)
  np.testing.assert_allclose(
    checked.log.rows.next_obs, following[~last], atol=1e-6
  )
  (said,) = checked.findings
  assert '5 rows whose next observation is not known' in said
  assert '1 terminations' in said and not checked.ends_known


def test_rows_that_are_not_finite_cut_their_episode(tmp_path):
  arrays = _arrays()
  arrays['observations'][12, 1] = np.nan
  arrays['rewards'][45] = np.inf
  arrays['next_observations'][46, 0] = 1e11
  checked = _check(_npz(tmp_path / 'log.npz', **arrays))
  (said,) = checked.findings
  assert '3 of 100 rows' in said and 'observations[:, 1] in row 12' in said
  rows = checked.log.rows
  assert len(rows.time) == 97 and np.isfinite(rows.obs).all()
  # No episode begins after the gap, and no window crosses it.
  assert np.sum(rows.time == 0) == len(_LENGTHS)
  assert rows.time[11:13].tolist() == [2, 4]
  without = {k: v for k, v in arrays.items() if k != 'next_observations'}
  checked = _check(_npz(tmp_path / 'other.npz', **without))
  # The row before cannot say what followed.
  assert 11 - 9 not in checked.log.rows.time[checked.log.rows.episode == 1]


def test_rows_that_are_missing_are_found(tmp_path):
  arrays = {name: np.delete(x, 20, 0) for name, x in _arrays().items()}
  checked = _check(_npz(tmp_path / 'log.npz', **arrays))
  (said,) = checked.findings
  assert '1 rows are not followed' in said and 'row 19' in said
  assert checked.log.size == 99 and checked.log.num_episodes == 5
  assert checked.log.rows.time[19:21].tolist() == [10, 12]
  # By the clock, where the file has one; the row before is then left out.
  del arrays['next_observations']
  clock = 0.05 * np.delete(np.arange(_ROWS), 20)
  checked = _check(_npz(tmp_path / 'other.npz', **arrays, timestamps=clock))
  assert '1 rows are not followed' in checked.findings[0]
  assert checked.log.size == 99 - 5 - 1
  most = functools.partial(log_lib.most_steps, checked.log)
  assert most(100, windows=1) == 24 and most(10, windows=1) == 10
  # Runs without a gap of 8, 10, 17, 13, 21 and 24 steps.
  assert most(100, windows=6) == 20 and most(100, windows=10**6) == 1


def test_odd_columns_are_named(tmp_path):
  arrays = _arrays(size=4)
  for name in ('observations', 'next_observations'):
    arrays[name][:, 2] = 1e6
    arrays[name][:, 3] = arrays[name][:, 0]
  arrays['actions'][:, 1] = 0.25
  arrays['observations'][50, 1] = 1e9
  findings = _check(_npz(tmp_path / 'log.npz', **arrays)).findings
  assert any('observations[:, 2] never varies: scaled' in x for x in findings)
  assert any(
    'observations[:, 3] is a copy of observations[:, 0]' in x for x in findings
  )
  assert any('observations[:, 1] is 1e+09 in row 50' in x for x in findings)
  assert any('actions[:, 1] never varies: models' in x for x in findings)
  assert all('\n' not in x and 'log.npz' in x for x in findings)


def test_actions_are_scaled_or_refused(tmp_path):
  arrays = _arrays()
  arrays['actions'] = arrays['actions'] * np.array([2.0, 5.0]) + [0, 5]
  path = _npz(tmp_path / 'log.npz', **arrays)
  with pytest.raises(logs.LogError, match=r'actions\[:, 1\] is 9\.\d+ in row'):
    _check(path)
  log = _check(path, logs.box([-2, 0], [2, 10])).log
  np.testing.assert_allclose(log.rows.action, _arrays()['actions'], atol=1e-6)
  with pytest.raises(logs.LogError, match='has 2 columns: must have 3'):
    _check(path, logs.box([-2] * 3, [2] * 3))
  # Whole numbers are choices.
  arrays['actions'] = np.arange(_ROWS) % 3
  checked = _check(_npz(tmp_path / 'choices.npz', **arrays))
  assert checked.log.discrete and checked.log.rows.action.shape == (_ROWS, 3)
  assert 'read as discrete actions 0 to 2' in checked.findings[0]
  with pytest.raises(logs.LogError, match='one whole number, 0 to 1'):
    _check(tmp_path / 'choices.npz', logs.discrete(2))
  checked = _check(tmp_path / 'choices.npz', logs.discrete(4))
  assert 'choices 3 were never taken' in checked.findings[0]


def _with(**changed):
  arrays = _arrays()
  for name, change in changed.items():
    arrays[name] = change(arrays.get(name))
    if arrays[name] is None:
      del arrays[name]
  return arrays


@pytest.mark.parametrize(
  ('arrays', 'said'),
  [
    (_with(actions=lambda x: x[:-1]), 'actions has 99 rows: must have 100'),
    (_with(rewards=lambda x: x[:, None] * [1, 2]), 'rewards has shape'),
    (_with(actions=lambda x: None), 'has no actions; its arrays are next_obs'),
    (_with(observations=lambda x: x[:, 0].astype(str)), 'must be numbers'),
    (_with(next_observations=lambda x: x[:, :1]), 'has 1 columns: must have 2'),
    (_with(observations=lambda x: x * [1, np.nan]), r'ns\[:, 1\] has no fin'),
    (_with(terminals=lambda x: x + 2), 'terminals has 2: must be 0 or 1'),
    (_with(rewards=lambda x: np.where(x > -9, np.nan, x)), 'rewards has no'),
    (_with(timestamps=lambda x: np.zeros(_ROWS)), 'timestamps does not'),
    (
      {n: x[:5] for n, x in _arrays().items()},
      '5 of 5 rows can be used: must be at least',
    ),
  ],
)  # fmt: skip
def test_what_cannot_be_mended_is_refused_in_a_line(arrays, said, tmp_path):
  path = _npz(tmp_path / 'log.npz', **arrays)
  with pytest.raises(logs.LogError, match=said) as error:
    _check(path)
  assert '\n' not in str(error.value) and str(path) in str(error.value)


def test_files_that_are_no_logs_are_refused(tmp_path, monkeypatch):
  text = tmp_path / 'log.csv'
  text.write_text('1,2')
  broken = tmp_path / 'log.npz'
  broken.write_bytes(b'PK nothing')
  empty = tmp_path / 'empty.npz'
  empty.write_bytes(b'')
  other = tmp_path / 'log.hdf5'
  other.write_bytes(b'nothing')
  objects = _npz(tmp_path / 'o.npz', observations=np.array([{}], object))
  for path, said in (
    (text, 'must be an .npz'),
    (broken, 'cannot be read'),
    (empty, 'cannot be read'),
    (other, 'cannot be read'),
    (objects, 'allow_pickle'),
    (tmp_path, 'must be a file, or a folder with'),
    (tmp_path / 'none.npz', 'no such file'),
  ):
    with pytest.raises(logs.LogError, match=said) as error:
      logs.read(path)
    assert '\n' not in str(error.value)
  monkeypatch.setitem(sys.modules, 'h5py', None)
  with pytest.raises(logs.LogError, match=r"'mbmpo-jax\[logs\]'"):
    logs.read(other)


def test_episodes_are_held_out_whole(tmp_path):
  log = _check(_npz(tmp_path / 'log.npz', **_arrays())).log
  learned, apart = log_lib.hold_out(log, fraction=0.2, seed=1)
  assert learned.size + apart.size == _ROWS and apart.size >= 20
  assert not set(learned.rows.episode) & set(apart.rows.episode)
  learned, apart = log_lib.hold_out(log, fraction=0.99, seed=1)
  assert learned.num_episodes == 1
  single = log.take(log.rows.episode == 1)
  learned, apart = log_lib.hold_out(single, fraction=0.1, seed=0)
  assert (learned.size, apart.size) == (27, 3)


# Learning.


def _reward(obs, action, next_obs):
  return -jnp.sum(next_obs**2, -1)


class Said(progress_lib.Silent):
  """Keeps what it is told."""

  def __init__(self):
    self.lines = []

  def message(self, text):
    self.lines.append(text)


class Run(NamedTuple):
  path: pathlib.Path
  folder: pathlib.Path
  row: dict[str, float]
  lines: list[str]


def _config(iterations: int = 2) -> config_lib.Experiment:
  return config_lib.replaced(
    tiny.point_config(),
    {'run.num_iterations': iterations, 'collect.buffer_capacity': 40},
  )


TASK = external.Task(_reward)


def _train(path, folder, config, task=TASK):
  said = Said()
  row = logs.train(path, task, config, folder, progress=said)
  return Run(path, folder, row, said.lines)


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
  folder = tmp_path_factory.mktemp('logs')
  path = _npz(folder / 'drift.npz', **_arrays())
  return _train(path, folder / 'run', _config())


def test_a_run_learns_from_the_log_alone(run):
  state = saved_state.load_state(run.folder).state
  held = _check(run.folder / 'held_out.npz').log
  assert int(state.buffer.size) + held.size == _ROWS
  assert int(state.counters.env_steps) == run.row['env_steps'] < _ROWS
  assert int(state.counters.iteration) == 2
  assert np.isfinite(run.row['eval/return_mean'])
  assert run.row['eval/length_mean'] <= 10
  assert any('are imagined, as there' in line for line in run.lines)
  for name in ('learning_curve.png', 'open_loop.png', 'open_loop.json'):
    assert (run.folder / name).stat().st_size > 0
  kept = json.loads((run.folder / 'log.json').read_text())
  assert kept['columns'] == ['observations[:, 0]', 'observations[:, 1]']
  policy = saved_policy.load_policy(run.folder)
  assert policy.act(jnp.zeros(2)).shape == (2,)
  saved_policy.export_policy(policy, run.folder / 'policy.bin')


def test_a_run_goes_on_where_it_was(run, tmp_path):
  """Models are fitted once; with another log it is refused."""
  folder = shutil.copytree(run.folder, tmp_path / 'run')
  again = _train(run.path, folder, _config(3))
  assert not any('fitted in' in line for line in again.lines)
  before, after = (
    saved_state.load_state(x).state for x in (run.folder, folder)
  )
  assert int(after.counters.iteration) == 3
  for name in ('ensemble', 'model', 'buffer'):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(before, name), getattr(after, name)
    )
  other = _arrays()
  other['rewards'] += 1
  path = _npz(tmp_path / run.path.name, **other)
  with pytest.raises(config_lib.ConfigError, match='started with other rows'):
    _train(path, folder, _config(3))


def test_diagnosis_of_a_run_from_a_log(run):
  found = logs.diagnose(run.folder)
  assert found.source == 'held-out rows of the log'
  assert found.errors.model.shape[::2] == (2, 2)
  assert np.all(found.errors.stays > 0) and not found.steady.any()
  written = json.loads((run.folder / 'open_loop.json').read_text())
  np.testing.assert_allclose(written['model'], found.model, rtol=1e-4)
  # Bounds of the log's actions are not those of the held-out rows.
  bounds = logs.box([-3.0], [3.0])
  again = logs.diagnose(run.folder, actions=bounds)
  np.testing.assert_array_equal(again.model, found.model)
  lines = diagnosis_report.table(found)
  assert len(lines) == 4 and lines[2].strip().startswith('observations[:, 0]')
  assert lines[2].endswith(f'{found.better[0]} steps')
  wide = _npz(run.folder.parent / 'wide.npz', **_arrays(size=3))
  with pytest.raises(logs.LogError, match='must have 2, as in the run'):
    logs.diagnose(run.folder, data=wide)


def test_rewards_and_ends_of_the_task_are_compared(run, tmp_path):
  said, checked = Said(), _check(run.path)
  sizes = offline._sizes(checked.log, _config(), None)
  env = task_lib.environment(sizes, TASK)
  offline._compare(env, checked.log, said)
  assert said.lines == []
  wrong = external.Task(lambda *step: _reward(*step) + 1, done=None)
  wrong = task_lib.environment(sizes, wrong)
  offline._compare(wrong, checked.log, said)
  assert 'task.reward differs from the log in 100 of 100' in said.lines[0]
  assert 'task.done differs from the log in 1 of 100' in said.lines[1]
  # Rewards that the file lacks are the task's, or it is refused.
  arrays = _arrays()
  paid = arrays.pop('rewards')
  checked = _check(_npz(tmp_path / 'unpaid.npz', **arrays))
  rows = offline._rewarded(checked, env).rows
  np.testing.assert_allclose(rows.reward, paid, atol=1e-5)
  with pytest.raises(logs.LogError, match='has no rewards: task'):
    offline._known(checked, external.Task(), said)
  # What never ends in the log does not end.
  assert offline._known(checked, TASK, said) is TASK
  arrays['terminals'] &= False
  checked = _check(_npz(tmp_path / 'endless.npz', **arrays))
  assert offline._known(checked, TASK, said).done is None


@pytest.mark.parametrize('name', ['mb_mpc', 'ppo', 'gssm'])
def test_algorithms_that_need_a_world_are_refused(name, run, tmp_path):
  settings = algorithms.config(name)()
  settings.collect.episode_length = 10
  with pytest.raises(
    (config_lib.ConfigError, ValueError), match=r'algorithm|episode_length|task'
  ) as error:
    _train(run.path, tmp_path / 'run', settings)
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_diagnosis_of_a_run_in_a_world(tmp_path):
  """New episodes of the policy."""
  config = config_lib.replaced(_config(1), {'collect.buffer_capacity': 100})
  loop.train(config, tmp_path, progress=progress_lib.Silent())
  found = logs.diagnose(tmp_path, steps=20)
  assert found.source == '10 new episodes of the policy'
  assert found.errors.model.shape == (2, 9, 2) and found.windows == 20
  diagnosis_report.report(found, tmp_path, lambda line: None)
  assert (tmp_path / 'open_loop.png').exists()


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--action_low=a'], r'--action_low=a: must be numbers'),
    (['--action_low=1'], 'must be equally many numbers'),
    (['--action_low=1', '--action_high=0'], 'each lower one below'),
    (['--gym=Nothing-v0'], '--gym=Nothing-v0'),
    (['--gym=Pendulum-v1', '--action_low=1'], 'must be left out'),
  ],
)
def test_flags_that_say_no_bounds_are_refused(arguments, said):
  values = flags.FlagValues()
  log_flags.define(values)
  values(['mbmpo', *arguments])
  with pytest.raises(errors.UserError, match=said) as error:
    log_flags.read(values)
  assert '\n' not in str(error.value)


def test_flags_say_bounds_and_time_limit():
  for arguments, bound, limit in (
    (['--gym=Pendulum-v1'], 2, 200),
    (['--action_low=-3', '--action_high=3'], 3, None),
    ([], None, None),
  ):
    values = flags.FlagValues()
    log_flags.define(values)
    values(['mbmpo', *arguments])
    actions, found = log_flags.read(values)
    assert found == limit
    if bound is not None:
      assert actions.to_world(np.ones((1, 1))).tolist() == [[bound]]


@pytest.mark.slow
def test_commands_learn_export_and_diagnose(run, tmp_path):
  def program(name, *arguments):
    return subprocess.run(
      [sys.executable, str(_ROOT / 'experiments' / f'{name}.py'), *arguments],
      capture_output=True,
      text=True,
      check=False,
      cwd=tmp_path,
      env=runs.environment(),
    )

  learn = (
    *runs.POINT[1:],
    f'--data={run.path}',
    '--config.run.num_iterations=1',
    '--workdir=learned',
  )
  done = program('offline', *learn, '--export=policy.bin')
  assert done.returncode == 0, done.stderr
  assert 'policy.bin: the best policy' in done.stdout
  assert 'beats both for' in done.stdout and ' reward ' in done.stdout
  done = program('diagnose', 'learned', '--steps=4', '--out=.')
  assert done.returncode == 0, done.stderr
  assert '4 steps' in done.stdout and (tmp_path / 'open_loop.png').exists()
  for name, *arguments, said in (
    ('offline', '--data: is missing'),
    ('offline', '--data=none.npz', 'none.npz: no such file'),
    ('diagnose', 'nothing', '--workdir=nothing: must be an existing'),
  ):
    done = program(name, *arguments)
    assert done.returncode == 2 and said in done.stderr
    assert done.stderr.count('\n') == 1
