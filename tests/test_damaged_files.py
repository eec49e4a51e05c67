"""Files of a run that are damaged, or that a stranger has sent."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax.training import loop
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.launch import flags
from mbmpo_jax.training.reporting import history
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.reporting import output
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import manifest
from mbmpo_jax.training.storage import saved_policy
from tests import fake
from tests import runs
from tests import tiny


def _train(workdir: pathlib.Path, iterations: int = 4):
  return loop.train(
    tiny.point_config(run__num_iterations=iterations),
    workdir,
    make_algorithm=fake.make,
    progress=progress_lib.Silent(),
  )


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A run of four iterations."""
  root = tmp_path_factory.mktemp('trained') / 'run'
  _train(root)
  return root


@pytest.fixture
def run(trained: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
  """A copy of it."""
  return shutil.copytree(trained, tmp_path / 'run')


# --- metrics.jsonl


_DAMAGES = {
  'no UTF-8': (b'"env_steps"', b'"\xff\xfev_steps', 1),
  'a bracket': (b'{"iteration": 1', b'["iteration": 1', 1),
  'a word': (b'"env_steps": 20', b'"env_steps": "many"', 1),
  'another number': (b'{"iteration": 1,', b'{"iteration": 7,', 1),
  'no object': (b'{"iteration": 1,', b'3\n{"iteration": 1,', 1),
  'depth': (b'{"iteration": 1,', b'[' * 10**5 + b'\n{"iteration": 1,', 1),
  'a large number': (b'{"iteration": 1,', b'{"iteration": 1e400,', 1),
  'a row twice': (
    b'{"iteration": 1,',
    b'{"iteration": 0}\n{"iteration": 1,',
    1,
  ),
}


@pytest.mark.parametrize('how', _DAMAGES)
def test_damaged_metrics_cost_the_damaged_rows(run, how):
  """Said in one line; the file is kept; the run is whole by its state."""
  old, new, lost = _DAMAGES[how]
  path = run / 'metrics.jsonl'
  data = path.read_bytes()
  assert old in data
  path.write_bytes(data.replace(old, new, 1))
  damaged = path.read_bytes()
  with pytest.warns(UserWarning, match=f'{lost} lines are damaged') as said:
    _train(run, 6)
  (message,) = (str(warning.message) for warning in said)
  assert '\n' not in message
  assert (run / 'metrics.jsonl.damaged').read_bytes() == damaged
  rows = metrics.read_jsonl(path)
  found = [row['iteration'] for row in rows]
  assert found == sorted(set(found)) and found[-1] == 5
  assert len(found) >= 5


def test_any_byte_of_the_metrics_may_change(trained, tmp_path):
  """At most the row that it is in, and the one after, are lost."""
  data = (trained / 'metrics.jsonl').read_bytes()
  path = tmp_path / 'metrics.jsonl'
  rng = random.Random(0)
  for _ in range(300):
    at = rng.randrange(len(data))
    path.write_bytes(data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :])
    assert len(metrics.read_jsonl(path)) >= 2
    said = ''
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      try:
        history.find([path])
      except errors.UserError as error:
        said = str(error)
    assert '\n' not in said


@pytest.mark.parametrize('how', ['gone', 'empty', 'a folder'])
def test_a_run_without_metrics_is_done_all_the_same(run, how, capsys):
  """By its state: the same command trains nothing once more."""
  path = run / 'metrics.jsonl'
  path.unlink()
  if how == 'empty':
    path.touch()
  if how == 'a folder':
    path.mkdir()
    with pytest.raises(errors.UserError) as refused:
      _train(run)
    assert '\n' not in str(refused.value)
    return
  progress = progress_lib.Lines()
  with pytest.warns(UserWarning, match='has rows of 0 of the 4 iterations'):
    result = loop.train(
      tiny.point_config(run__num_iterations=4),
      run,
      make_algorithm=fake.make,
      progress=progress,
    )
  assert result == {}
  said = capsys.readouterr().out
  assert '4 of 4 iterations are done' in said
  assert 'continues' not in said


# --- the arithmetic that a run was started in


_X64 = """
import sys
sys.path.insert(0, {root!r})
from tests import fake, tiny
from mbmpo_jax.training import loop
from mbmpo_jax.training.launch import flags
with flags.one_line_errors():
  loop.train(
    tiny.point_config(run__num_iterations=6), {run!r}, make_algorithm=fake.make
  )
"""


@pytest.mark.parametrize(
  ('variable', 'value', 'before'),
  [
    ('JAX_ENABLE_X64', '1', 'False'),
    pytest.param(
      'JAX_DEFAULT_MATMUL_PRECISION', 'bfloat16', 'None', marks=pytest.mark.slow
    ),
    pytest.param(
      'JAX_DEFAULT_PRNG_IMPL', 'rbg', 'threefry2x32', marks=pytest.mark.slow
    ),
    pytest.param(
      'JAX_THREEFRY_PARTITIONABLE', '0', 'True', marks=pytest.mark.slow
    ),
  ],
)
def test_a_run_goes_on_in_its_own_arithmetic(run, variable, value, before):
  """In one line, before anything is written."""
  kept = runs.rows(run)
  done = subprocess.run(
    [sys.executable, '-c', _X64.format(root=str(runs.ROOT), run=str(run))],
    env=runs.environment() | {variable: value},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert f'was started with {variable}={before}' in line
  assert line.startswith(f'error: {variable}=')
  assert runs.rows(run) == kept


def test_numbers_of_a_checkpoint_are_not_cast(tmp_path, x64):
  """Of a run whose configuration does not say its arithmetic."""
  checkpoints = checkpoint.Checkpointer(tmp_path)
  checkpoints.save(1, {'x': np.ones(2, np.float32)})
  checkpoints.wait()
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = {'x': jax.ShapeDtypeStruct((2,), jnp.float64, sharding=sharding)}
  with pytest.raises(checkpoint.CheckpointError, match='x has type float32'):
    checkpoints.restore_latest(like)
  checkpoints.close()


def test_a_field_that_is_new_in_checkpoints_has_its_default(run):
  """Runs go on that were begun before the best policy's error was kept."""
  directory = run / 'checkpoints'
  (step, tree) = checkpoint.read_part(directory, ())
  del tree['best_error'], tree['best_iteration']
  shutil.rmtree(directory)
  checkpoints = checkpoint.Checkpointer(directory)
  checkpoints.save(step, tree)
  checkpoints.close()
  row = _train(run, 5)
  assert row['iteration'] == 4
  assert np.isfinite(row['eval/best_return'])


# --- a policy is held to its configuration


def _change_policy(run: pathlib.Path, change) -> None:
  """Writes a checkpoint whose sums are right, as anybody can."""
  directory = run / 'checkpoints'
  (step, tree) = checkpoint.read_part(directory, ())
  shutil.rmtree(directory)
  tree['best_policy'] = change(tree['best_policy'])
  checkpoints = checkpoint.Checkpointer(directory)
  checkpoints.save(step, tree)
  checkpoints.close()


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (lambda x: np.full_like(x, np.nan), 'not finite'),
    (lambda x: np.where(x == x.flat[0], np.inf, x), 'not finite'),
    (lambda x: x.astype(np.int32), 'has type int32'),
    (lambda x: x.astype(bool), 'has type bool'),
    (lambda x: x[None], 'has the shape'),
    (lambda x: {'more': x}, 'is not an array'),
  ],
)
def test_a_policy_that_is_none_is_refused(run, change, said):
  """Shapes, kinds of numbers, numbers."""
  _change_policy(run, lambda policy: jax.tree.map(change, policy))
  with pytest.raises(config_lib.ConfigError, match=said) as refused:
    saved_policy.load_policy(run)
  assert '\n' not in str(refused.value)


def test_a_policy_in_double_precision_may_act_in_single(run):
  """It is the same one."""
  plain = saved_policy.load_policy(run)
  _change_policy(
    run, lambda policy: jax.tree.map(lambda x: x.astype(np.float64), policy)
  )
  found = saved_policy.load_policy(run)
  jax.tree.map(np.testing.assert_array_equal, found.params, plain.params)


# --- whatever a stranger may send


def _fifo(run: pathlib.Path) -> None:
  (run / 'config.json').unlink()
  os.mkfifo(run / 'config.json')


def _write(name: str, text: str):
  return lambda run: (run / name).write_text(text, encoding='utf-8')


def _set(**fields):
  def change(run: pathlib.Path) -> None:
    path = run / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))

  return change


def _no_config(run: pathlib.Path) -> None:
  (run / 'config.json').unlink()
  (run / 'config.json').mkdir()


@pytest.mark.parametrize(
  'change',
  [
    _fifo,
    _no_config,
    _write('config.json', '[' * 10**5),
    _write('config.json', '{"a":' * 10**5),
    _write('config.json', '{"algorithm": "mbmpo", "seed": ' + '9' * 5000 + '}'),
    _write('config.json', '\0'),
    _write('config.json', '"mbmpo"'),
    _write('sweep.json', '{}'),
    _set(seed={'x': 1}),
    _set(seed=float('nan')),
    _set(env=3),
    _set(env={'name': '\ud800'}),
    _set(env={'name': '\x1b[2J\n'}),
    _set(algorithm='\ud800'),
    _set(algorithm='__import__'),
    _set(policy={'hidden_sizes': [[8]]}),
    _set(policy={'hidden_sizes': 'a'}),
    _set(**{'\x1b]0;': 1}),
    _set(**{'a\nb.c': 1}),
  ],
)
def test_any_configuration_is_read_or_refused_in_one_line(run, change, capsys):
  """By what reads policies, by what draws, and by a run that goes on."""
  change(run)
  for read in (
    lambda: saved_policy.load_policy(run),
    lambda: _train(run, 5),
    lambda: history.find([run]),
  ):
    code = 2
    try:
      with flags.one_line_errors():
        read()
    except SystemExit as end:
      code = end.code
    assert code == 2
    said = capsys.readouterr().err
    assert said.count('\n') in (0, 1)
    assert said.rstrip('\n').isprintable()


@pytest.mark.parametrize(
  'name', ['²', '٣', '007', '1e3', '-1', '9' * 200, '5.partial.x', 'a b']
)
def test_a_folder_of_any_name_may_lie_among_checkpoints(run, name):
  """It is none, and disturbs none."""
  (run / 'checkpoints' / name).mkdir()
  assert checkpoint.steps(run / 'checkpoints') == [2, 3, 4]
  assert not manifest.is_step(name)
  saved_policy.load_policy(run)
  assert _train(run, 5)['iteration'] == 4


@pytest.mark.parametrize('name', ['x' * 300, 'a/' + 'y' * 5000, 'n\0l'])
def test_a_name_too_long_is_one_line(name, tmp_path):
  """Of a folder; of a configuration file or preset."""
  with pytest.raises(config_lib.ConfigError) as refused:
    folder_lib.RunFolder(tmp_path / name)
  assert len(str(refused.value)) < 300
  with pytest.raises(config_lib.ConfigError, match='no such'):
    flags.presets.load(name, runs.ROOT / 'experiments/configs/mbmpo/point.py')


# --- what is around a program


def test_a_closed_output_does_not_stop_a_run(tmp_path):
  """Nor does it end otherwise than well."""
  program = _X64.format(root=str(runs.ROOT), run=str(tmp_path / 'run'))
  with subprocess.Popen(
    [sys.executable, '-c', program],
    env=runs.environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
  assert process.returncode == 0, said
  assert said == ''
  assert len(runs.rows(tmp_path / 'run')) == 6


def test_an_output_that_is_full_or_gone_is_no_error(monkeypatch):
  """A disk, a terminal, no file at all."""

  class Full:
    def write(self, text):
      raise OSError(28, 'No space left on device')

    def flush(self):
      pass

    def fileno(self):
      raise OSError

  for stream in (Full(), None):
    monkeypatch.setattr(sys, 'stdout', stream)
    output.say('anything')
    output.say('more')


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
  """What was asked for, and what JAX says."""
  for platform in ('rocm', 'cuda', 'nonsense'):
    done = subprocess.run(
      [
        sys.executable,
        '-c',
        'from mbmpo_jax.training.launch import flags\n'
        'with flags.one_line_errors():\n  import jax; jax.devices()',
      ],
      env=runs.environment() | {'JAX_PLATFORMS': platform},
      capture_output=True,
      text=True,
      timeout=300,
    )
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f'error: JAX_PLATFORMS={platform}: must name')


def test_without_a_home_nothing_is_cached(monkeypatch, tmp_path, request):
  """That is said, once, and the rest goes on."""
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  before = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  request.addfinalizer(
    lambda: jax.config.update('jax_compilation_cache_dir', before)
  )
  (tmp_path / 'file').touch()
  for home in ('/proc/nowhere', str(tmp_path / 'file')):
    monkeypatch.setenv('XDG_CACHE_HOME', home)
    with pytest.warns(UserWarning, match='not kept for the next start'):
      assert cache.enable() is None
  monkeypatch.delenv('XDG_CACHE_HOME')

  def homeless():
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(pathlib.Path, 'home', homeless)
  with pytest.warns(UserWarning, match='Could not determine'):
    assert cache.enable() is None
