"""Reading a policy back from a run's folder, alone; exporting it."""

import dataclasses
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import zipfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.policies import base
from mbmpo_jax.policies import gaussian
from mbmpo_jax.training import loop
from mbmpo_jax.training.reporting import metrics as metrics_lib
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import trees
from tests import fake
from tests import tiny

_ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A run whose best policy is not its latest; a config of odd values."""
  workdir = tmp_path_factory.mktemp('run')
  config = tiny.point_config(run__num_iterations=6, policy__min_std=0.5)
  loop.train(
    config,
    workdir,
    make_algorithm=fake.make,
    progress=progress_lib.Silent(),
  )
  returns = [
    row['eval/return_mean']
    for row in metrics_lib.read_jsonl(workdir / 'metrics.jsonl')
  ]
  assert int(np.argmax(returns)) < 5, 'best and latest must differ'
  return workdir


def _saved(workdir: pathlib.Path):
  """All that the newest checkpoint holds, by the other way to read it."""
  step = checkpoint.steps(workdir / 'checkpoints')[-1]
  return trees._orbax().restore(workdir / 'checkpoints' / str(step))


def test_both_policies_come_back_with_their_config(
  trained: pathlib.Path,
) -> None:
  """Bit for bit, and the config with tuples where it had them."""
  saved = _saved(trained)
  expected = {'best': saved['best_policy'], 'latest': saved['policy']}
  for which, params in expected.items():
    policy = saved_policy.load_policy(trained, which)
    jax.tree.map(np.testing.assert_array_equal, policy.params, params)
    assert policy.iteration == 6
    assert policy.config == tiny.point_config(
      run__num_iterations=6, policy__min_std=0.5
    )
  assert isinstance(policy.make_env(), type(envs.make('point')))


def test_a_relative_folder_will_do(
  trained: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """As on the command line; Orbax reads nothing by such a path."""
  monkeypatch.chdir(trained.parent)
  policy = saved_policy.load_policy(trained.name)
  expected = saved_policy.load_policy(trained)
  jax.tree.map(np.testing.assert_array_equal, policy.params, expected.params)


def test_acts_as_in_training(trained: pathlib.Path) -> None:
  """The mean action or a sample, with the run's own floor of the deviation."""
  policy = saved_policy.load_policy(trained)
  params = policy.params | {'log_std': jnp.array([-3.0, 0.1])}
  policy = dataclasses.replace(policy, params=params)
  obs = jnp.linspace(-2, 2, 14).reshape(7, 2)
  dist = gaussian.apply(policy.params, obs, min_std=0.5)
  np.testing.assert_array_equal(policy.act(obs), jnp.clip(dist.mean, -1, 1))
  key = jax.random.PRNGKey(3)
  noise = jax.random.normal(key, (7, 2))
  np.testing.assert_array_equal(
    policy.act(obs, key), jnp.clip(dist.sample(noise), -1, 1)
  )
  assert policy.act(obs[0]).shape == (2,)
  carry, action = policy.step(policy.start(key, 7), obs, key=key)
  assert carry == ()
  np.testing.assert_array_equal(action, policy.act(obs, key))


def test_reading_writes_nothing_and_compiles_nothing(
  trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """A folder that cannot be written to will do; nothing in it changes."""
  copy = tmp_path / 'copy'
  shutil.copytree(trained, copy)
  before = {p: p.stat().st_mtime_ns for p in copy.rglob('*')}
  for path in before:
    path.chmod(0o555 if path.is_dir() else 0o444)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, 'jit', None)
    saved_policy.load_policy(copy)
  assert {p: p.stat().st_mtime_ns for p in copy.rglob('*')} == before
  for path in before:
    path.chmod(0o755)


def test_reading_unpickles_nothing(
  trained: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Data are read as data: pickle would run what a stranger wrote."""

  def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError('something was unpickled')

  for name in ('load', 'loads', 'Unpickler'):
    monkeypatch.setattr(pickle, name, refuse)
  saved_policy.load_policy(trained)


def test_damaged_checkpoint_is_passed_over(
  trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """With a warning, and without touching it."""
  copy = tmp_path / 'copy'
  shutil.copytree(trained, copy)
  (copy / 'checkpoints' / '6' / '_METADATA').unlink()
  with pytest.warns(UserWarning, match='checkpoint 6 .* back to 5 .*_METADATA'):
    policy = saved_policy.load_policy(copy)
  assert policy.iteration == 5
  assert checkpoint.steps(copy / 'checkpoints') == [4, 5, 6]


def test_checkpoints_that_vanish_while_reading(
  trained: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """A run that goes on deletes them: what it put in their place is read."""
  copy = tmp_path / 'copy'
  shutil.copytree(trained, copy)
  checkpoints = copy / 'checkpoints'
  real = trees.read_part

  def read(path: pathlib.Path, keys):
    if checkpoint.steps(checkpoints) == [4, 5, 6]:
      (checkpoints / '6').rename(checkpoints / '9')
      for step in (4, 5):
        shutil.rmtree(checkpoints / str(step))
    return real(path, keys)

  monkeypatch.setattr(trees, 'read_part', read)
  assert saved_policy.load_policy(copy).iteration == 9


def _written(**changes):
  """Other fields in `config.json`; those that are None are left out."""

  def write(root: pathlib.Path) -> None:
    path = root / 'config.json'
    fields = {**json.loads(path.read_text()), **changes}
    fields = {k: v for k, v in fields.items() if v is not None}
    path.write_text(json.dumps(fields))

  return write


@pytest.mark.parametrize(
  ('damage', 'said'),
  [
    (lambda root: (root / 'config.json').unlink(), r'config\.json'),
    (lambda root: (root / 'config.json').write_text('[]'), r'config\.json'),
    (_written(sede=1), "unknown field sede .*'seed'"),
    (_written(seed=-1), 'seed=-1'),
    (_written(algorithm='mbpo'), "algorithm='mbpo'.*mean 'mbmpo'"),
    (_written(algorithm=None), 'an earlier version made it'),
    (_written(algorithm=1), 'an earlier version made it'),
    (_written(policy={'hidden_sizes': [9]}), r'layers/0/b .*\(8,\), not'),
    (_written(policy={'hidden_sizes': [8, 2]}), 'it has no layers/2/b'),
    (lambda root: shutil.rmtree(root / 'checkpoints'), 'no checkpoint yet'),
  ],
)
def test_folder_without_a_policy_is_refused(
  damage, said: str, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """In one line that says what is missing."""
  copy = tmp_path / 'copy'
  shutil.copytree(trained, copy)
  damage(copy)
  with pytest.raises(config_lib.ConfigError, match=said) as error:
    saved_policy.load_policy(copy)
  assert '\n' not in str(error.value)


def test_which_is_one_of_two(trained: pathlib.Path) -> None:
  with pytest.raises(config_lib.ConfigError, match="which='first'"):
    saved_policy.load_policy(trained, 'first')


_USE = """
import sys
sys.modules['mbmpo_jax'] = None  # Importing it raises.
import jax, numpy as np
from jax import export
for name in ('mean', 'sample'):
  with open(name, 'rb') as file:
    program = export.deserialize(bytearray(file.read()))
  assert {'cpu', 'cuda'} <= set(program.platforms)
  for size in (1, 5):
    obs = np.load('obs.npy')[:size]
    key = (jax.random.PRNGKey(3),) if name == 'sample' else ()
    np.save(f'{name}{size}.npy', program.call(obs, *key))
"""


def _outside(program: str, folder: pathlib.Path) -> None:
  """Runs a program that does not see this package."""
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  subprocess.run(
    [sys.executable, '-c', program],
    cwd=folder,
    env=environment | {'JAX_PLATFORMS': 'cpu'},
    check=True,
  )


def test_exported_policy_runs_without_this_package(
  trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """For any number of observations, with the actions of the policy."""
  policy = saved_policy.load_policy(trained)
  obs = np.linspace(-2, 2, 10, dtype=np.float32).reshape(5, 2)
  np.save(tmp_path / 'obs.npy', obs)
  saved_policy.export_policy(policy, tmp_path / 'mean')
  saved_policy.export_policy(policy, tmp_path / 'sample', sample=True)
  _outside(_USE, tmp_path)
  key = jax.random.PRNGKey(3)
  for size in (1, 5):
    for name, args in (('mean', ()), ('sample', (key,))):
      np.testing.assert_allclose(
        np.load(tmp_path / f'{name}{size}.npy'),
        policy.act(obs[:size], *args),
        rtol=1e-6,
        atol=1e-6,
      )


class _Params(NamedTuple):
  """Not a dictionary: what is read must become one of these again."""

  gain: jax.Array  # [A]


def _remembering() -> saved_policy.SavedPolicy:
  """Acts by the sum of rewards so far and the number of steps, from 0.5."""

  def start(params, key, context, num):
    total = jax.random.uniform(key, (num,)) * 0 + 0.5
    return {'total': total, 'steps': jnp.zeros(num, int)}

  def act(params, carry, obs, noise):
    known = (carry['total'] + carry['steps'])[:, None]
    raw = params.gain[None] * known + obs
    raw = raw if noise is None else raw + noise
    carry = carry | {'steps': carry['steps'] + 1}
    return carry, base.Action(raw, raw, raw[:, 0])

  def observe(params, carry, step):
    return carry | {'total': carry['total'] + step.reward}

  policy = base.Policy(
    init=lambda key: _Params(jnp.zeros(2)),
    start=start,
    act=act,
    noise=lambda key, shape: jax.random.normal(key, (*shape, 2)),
    observe=observe,
  )
  params = _Params(jnp.array([1.0, 10.0]))
  return saved_policy.SavedPolicy(tiny.point_config(), params, 3, policy)


def _episode(step, start, *, sample: bool) -> np.ndarray:
  """The actions [T, N, A] of three steps in a made-up world."""
  obs, key = jnp.arange(4.0).reshape(2, 2), jax.random.PRNGKey(1)
  carry, previous, actions = start(key, obs), None, []
  for t in range(3):
    key, own = jax.random.split(key)
    carry, action = step(carry, obs, previous, own if sample else None)
    actions.append(action)
    reward = jnp.array([1.0, 2.0]) + t
    previous = base.Experience(obs, action, reward, obs + 1, jnp.zeros(2))
    obs = obs + 1
  return np.stack(actions)


def test_memory_is_kept_between_steps_and_refused_by_act() -> None:
  """The first action knows of no reward, the others of those before."""
  policy = _remembering()
  actions = _episode(
    policy.step, lambda key, obs: policy.start(key, 2), sample=False
  )
  known = 0.5 + np.array([[0, 0], [1 + 1, 2 + 1], [3 + 2, 5 + 2]])
  expected = known[..., None] * [1, 10] + np.arange(4).reshape(2, 2)
  expected += np.arange(3)[:, None, None]
  np.testing.assert_allclose(actions, expected, rtol=1e-6)
  with pytest.raises(saved_policy.RemembersError, match=r'start\(\) and step'):
    policy.act(jnp.zeros((2, 2)))


_USE_MEMORY = """
import sys
sys.modules['mbmpo_jax'] = None  # Importing it raises.
import zipfile
import jax, numpy as np
from jax import export

def load(name):
  with zipfile.ZipFile('policy.zip') as file:
    return export.deserialize(bytearray(file.read(name)))

start, step = load('start.bin'), load('step.bin')
obs, key = np.arange(4, dtype=np.float32).reshape(2, 2), jax.random.PRNGKey(1)
carry, actions = start.call(key, obs), []
previous = (obs, obs, obs[:, 0] * np.nan, obs, obs[:, 0])
for t in range(3):
  key, own = jax.random.split(key)
  carry, action = step.call(carry, obs, previous, np.bool_(t == 0), own)
  actions.append(action)
  reward = np.float32([1, 2]) + np.float32(t)
  previous = (obs, action, reward, obs + 1, np.zeros(2, np.float32))
  obs = obs + 1
np.save('actions.npy', np.stack(actions))
"""


def test_exported_memory_runs_without_this_package(
  tmp_path: pathlib.Path,
) -> None:
  """Two programs for any number of episodes, in one file."""
  policy = _remembering()
  path = tmp_path / 'policy.zip'
  saved_policy.export_policy(policy, path, sample=True)
  _outside(_USE_MEMORY, tmp_path)
  np.testing.assert_allclose(
    np.load(tmp_path / 'actions.npy'),
    _episode(policy.step, lambda key, obs: policy.start(key, 2), sample=True),
    rtol=1e-6,
  )
  saved_policy.export_policy(policy, path)
  with zipfile.ZipFile(path) as file:
    assert file.namelist() == ['start.bin', 'step.bin']
    step = export.deserialize(bytearray(file.read('step.bin')))
  assert len(step.in_avals) == 2 + 1 + 5 + 1  # No key.


def test_export_to_nowhere_is_one_line(
  trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  policy = saved_policy.load_policy(trained)
  with pytest.raises(atomic.WriteError, match=r'nowhere.*No such file'):
    saved_policy.export_policy(policy, tmp_path / 'nowhere' / 'policy')


def _evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [sys.executable, str(_ROOT / 'experiments' / 'evaluate.py'), *arguments],
    env=os.environ | {'PYTHONPATH': str(_ROOT), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )


def test_binary_prints_a_line_for_each_result(
  trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """Of the folder alone; and writes the export beside."""
  path = tmp_path / 'policy.bin'
  done = _evaluate(f'--workdir={trained}', '--episodes=7', f'--export={path}')
  assert done.returncode == 0, done.stderr
  written, line = done.stdout.splitlines()
  assert written.startswith(f'{path}: the best policy, ')
  assert line.startswith('best policy of 6 iterations, 7 episodes: return -')
  assert line.endswith('length 10')
  assert path.stat().st_size > 0


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ((), '--workdir: is missing'),
    (('--workdr=x',), '--workdir'),
    (('--workdir=x', 'y'), 'y: unexpected argument'),
    (('--workdir=nowhere',), '--workdir=nowhere: must hold a run'),
    (('--workdir=x', '--context=3'), '--context=3: must come with --tasks'),
    (('--workdir=x', '--tasks='), "--tasks=: must be 'test', or the numbers"),
    (
      ('--workdir=x', '--tasks=test', '--context=3', '--which=best'),
      '--which=best: must be latest with --context',
    ),
  ],
)
def test_bad_flags_are_one_line(arguments: tuple[str, ...], said: str) -> None:
  done = _evaluate(*arguments)
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ') and said in line


def test_empty_arrays_of_a_body_are_read_as_they_were():
  """Orbax holds an element for each; a wrong shape is still refused."""
  state = {'act': np.zeros((3, 0)), 'qpos': np.arange(3.0)}
  written = jax.tree.map(trees.with_elements, state)
  assert written['act'].shape == (1, 1)
  shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state))
  read = saved_policy.as_in(shapes, written)
  assert read['act'].shape == (3, 0)
  np.testing.assert_array_equal(read['qpos'], state['qpos'])
  with pytest.raises(ValueError, match='act has the shape'):
    saved_policy.as_in(shapes, written | {'act': np.zeros((2, 1))})
