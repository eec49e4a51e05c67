"""Many runs in one program: each is what it would have been alone."""

import contextlib
import functools
import io
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import pytest
from absl import flags

from mbmpo_jax import algorithms
from mbmpo_jax import backend
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import devices
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training import iteration
from mbmpo_jax.training import loop
from mbmpo_jax.training import solved
from mbmpo_jax.training import stacked
from mbmpo_jax.training import sweep
from mbmpo_jax.training.launch import sweep_flags
from mbmpo_jax.training.reporting import metrics as metrics_lib
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import checkpoint
from tests import fake
from tests import runs
from tests import tiny

_ROOT = pathlib.Path(__file__).parents[1]
_CONFIGS = _ROOT / 'experiments' / 'configs'
_CLOCK = ('time/', 'throughput/')
_VALUES = {'meta.inner_lr': (0.001, 0.1)}
_NAMES = [
  f'meta.inner_lr={value},seed={seed}'
  for value in (0.001, 0.1)
  for seed in (0, 1)
]


def _rows(folder: pathlib.Path) -> list[dict[str, float]]:
  """metrics.jsonl without what depends on the clock."""
  return [
    {k: v for k, v in row.items() if not k.startswith(_CLOCK)}
    for row in metrics_lib.read_jsonl(folder / 'metrics.jsonl')
  ]


def _make(config: config_lib.Experiment) -> base.Algorithm:
  env = envs.make('point')
  return algorithms.make(config.algorithm, env, config, check=False)


def _saved(
  folder: pathlib.Path, config: config_lib.Experiment
) -> tuple[int, iteration.Saved]:
  """A run's newest checkpoint, as NumPy arrays."""
  algorithm = _make(config)
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.eval_shape(
    lambda: iteration.start(
      algorithm, jax.random.PRNGKey(0), base.hyper(config), sharding
    )
  )
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    abstract,
  )
  checkpoints = checkpoint.Checkpointer(folder / 'checkpoints')
  found = checkpoints.restore_latest(abstract)
  checkpoints.close()
  assert found is not None
  return found[0], jax.device_get(found[1])


def _assert_close(actual: object, expected: object) -> None:
  """To 1e-8 of the largest entry of each array."""

  def compare(actual: np.ndarray, expected: np.ndarray) -> None:
    finite = np.isfinite(expected)
    largest = np.max(np.abs(expected), where=finite, initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-8 * largest)

  jax.tree.map(compare, actual, expected)


# --- the runs


@pytest.fixture
def little_optimisation() -> Iterator[None]:
  """Halves the compiler's time, for a test that compiles much."""
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


def _train(
  config: config_lib.Experiment,
  workdir: pathlib.Path,
  algorithm: base.Algorithm,
) -> None:
  """Trains alone, by phases that have been traced before."""
  loop.train(
    config,
    workdir,
    make_algorithm=lambda env, config: algorithm,
    progress=progress_lib.Silent(),
  )


def _compare_with_runs_alone(
  config: config_lib.Experiment,
  tmp_path: pathlib.Path,
  mesh: jax.sharding.Mesh | None,
  field: str = 'meta.inner_lr',
) -> list[set[float]]:
  """Sweeps over the mesh, and trains two of the runs alone.

  One of them goes on, from the sweep's checkpoint and from its own. Returns all
  runs' numbers of epochs in each of the sweep's iterations.
  """
  grid = grid_lib.Grid(config, {field: (0.001, 0.1)}, num_seeds=2)
  sweep.sweep(
    grid, tmp_path / 'sweep', mesh=mesh, progress=progress_lib.Silent()
  )
  algorithm, names = _make(config), list(grid.runs())
  for name in names[1:3]:
    own, alone, among = grid.runs()[name], tmp_path / name, tmp_path / 'sweep'
    _train(own, alone, algorithm)
    _compare(among / name, alone, own)
  rows = zip(*(_rows(tmp_path / 'sweep' / name) for name in names), strict=True)
  epochs = [{row['model/epochs'] for row in of_all} for of_all in rows]
  own.run.num_iterations += 1
  _train(own, alone, algorithm)
  _train(own, among / name, algorithm)
  _compare(among / name, alone, own)
  return epochs


def _compare(
  actual: pathlib.Path, expected: pathlib.Path, config: config_lib.Experiment
) -> None:
  """Configurations, metrics and newest checkpoints of two folders."""
  texts = [(path / 'config.json').read_text() for path in (actual, expected)]
  assert texts[0] == texts[1]
  rows, others = _rows(actual), _rows(expected)
  assert len(rows) == config.run.num_iterations
  for row, other in zip(rows, others, strict=True):
    assert row.keys() == other.keys()
    np.testing.assert_allclose(
      list(row.values()), [other[k] for k in row], rtol=1e-8, atol=1e-12
    )
  _assert_close(_saved(actual, config), _saved(expected, config))


@pytest.mark.parametrize(
  'in_turn',
  [
    pytest.param(False, id='vmap', marks=pytest.mark.slow),
    pytest.param(True, id='in_turn'),
  ],
)
def test_a_run_of_a_sweep_is_the_run_alone(
  in_turn: bool,
  x64: None,
  little_optimisation: None,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """Metrics, state and best policy, over two devices.

  Vmapped, some runs wait for others' fits.
  """
  monkeypatch.setattr(
    stacked,
    'over_runs',
    functools.partial(stacked.over_runs, in_turn=in_turn),
  )
  name, field = 'mbmpo', 'meta.inner_lr'
  if in_turn:  # A planner's is compiled in a third of the time.
    name, field = 'mb_mpc', 'planner.discount'
  config = tiny.of(name, run__num_iterations=2, **tiny.STOPPING)
  mesh = devices.make_run_mesh(len(_NAMES), 2)
  epochs = _compare_with_runs_alone(config, tmp_path, mesh, field)
  for of_all in epochs:
    assert len(of_all) > 1, 'runs that stop together would not show it'


@pytest.mark.slow
def test_a_run_of_a_sweep_is_the_run_alone_without_early_stopping(
  x64: None, tmp_path: pathlib.Path
) -> None:
  """And as the compiler makes it for use."""
  config = tiny.point_config(run__num_iterations=2)
  mesh = devices.make_run_mesh(len(_NAMES))
  assert mesh is not None and mesh.size == len(_NAMES)
  assert _compare_with_runs_alone(config, tmp_path, mesh) == [{2}, {2}]


@pytest.mark.parametrize(
  ('num_runs', 'asked', 'size'),
  [(4, None, 4), (6, None, 6), (9, None, 3), (7, 1, 1), (11, None, 1)],
)
def test_devices_share_the_runs(
  num_runs: int, asked: int | None, size: int
) -> None:
  """As many of the eight as divide them; one needs no mesh."""
  mesh = devices.make_run_mesh(num_runs, asked)
  assert (1 if mesh is None else mesh.size) == size
  tree = {'a': np.arange(3.0 * num_runs).reshape(num_runs, 3)}
  runs = stacked.split(tree, num_runs)
  again = stacked.stack(runs, mesh)
  assert len(again['a'].sharding.device_set) == size
  shift = stacked.over_runs(lambda one, by: {'a': one['a'] + by}, mesh)
  shifted = jax.jit(shift)(again, 1.0)['a']
  np.testing.assert_array_equal(shifted, tree['a'] + 1)
  assert len(shifted.sharding.device_set) == size
  # Each device goes through its own alone.
  program = str(jax.make_jaxpr(shift)(again, 1.0))
  assert ('shard_map' in program) == (size > 1)
  assert f'length={num_runs // size}' in program


def test_other_devices_than_a_cpu_compute_all_their_runs_at_once(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(backend, 'is_cpu', lambda mesh: False)
  shift = stacked.over_runs(lambda one, by: one + by)
  assert 'scan' not in str(jax.make_jaxpr(shift)(np.arange(4.0), 1.0))


def test_devices_that_runs_do_not_divide_over_are_refused(
  tmp_path: pathlib.Path,
) -> None:
  """One line, with the numbers that would; so is a search on several."""
  with pytest.raises(devices.DeviceError) as error:
    devices.make_run_mesh(6, 4)
  assert str(error.value) == (
    '--num_devices=4: does not divide 6 runs: must be one of 1, 2, 3, 6'
  )
  with pytest.raises(devices.DeviceError, match=r'num_devices=9: .* \[1, 8\]'):
    devices.make_run_mesh(9, 9)
  with pytest.raises(devices.DeviceError, match=r'num_devices=0: .* \[1, 8\]'):
    devices.make_run_mesh(6, 0)
  grid = grid_lib.Grid(tiny.point_config(), {}, num_seeds=2)
  of_run = devices.make_mesh(tiny.point_config(), 2)
  for mesh in (of_run, devices.make_run_mesh(3)):
    with pytest.raises(config_lib.ConfigError, match=r"mesh: .* axis, 'runs'"):
      sweep.sweep(grid, tmp_path, mesh=mesh)
  with pytest.raises(config_lib.ConfigError, match=r'debug_nans: .* not 2'):
    sweep.sweep(grid, tmp_path, mesh=devices.make_run_mesh(2), debug_nans=True)
  assert not list(tmp_path.iterdir())


def _sweep(
  workdir: pathlib.Path,
  progress: progress_lib.Progress | None = None,
  *,
  values: Mapping[str, tuple[float, ...]] = _VALUES,
  num_seeds: int = 2,
  seed: int = 0,
  **overrides,
) -> dict[str, dict[str, float]]:
  """Sweeps an algorithm that does nothing but write what a run writes."""
  config = tiny.point_config(**{'run__num_iterations': 3, **overrides})
  config.seed = seed
  grid = grid_lib.Grid(config, values, num_seeds=num_seeds)
  return sweep.sweep(
    grid,
    workdir,
    make_algorithm=fake.make,
    mesh=devices.make_run_mesh(len(grid.runs()), 2),
    progress=progress or progress_lib.Silent(),
  )


@pytest.fixture(scope='module')
def printed() -> list[str]:
  """What `whole` printed."""
  return []


@pytest.fixture(scope='module')
def whole(
  printed: list[str],
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """A finished sweep; to be read, not written."""
  folder = tmp_path_factory.mktemp('whole')
  with contextlib.redirect_stdout(io.StringIO()) as output:
    result = _sweep(folder, progress_lib.Lines())
  printed.extend(output.getvalue().splitlines())
  for name, row in result.items():
    np.testing.assert_equal(
      row, metrics_lib.read_jsonl(folder / name / 'metrics.jsonl')[-1]
    )
  return folder


def test_sweep_leaves_a_folder_per_run(whole: pathlib.Path) -> None:
  """Each as a run leaves it; beside them what they have in common."""
  assert {p.name for p in whole.iterdir()} == {
    '.lock',
    'sweep.json',
    'learning_curves.png',
    *_NAMES,
  }
  assert (whole / 'learning_curves.png').read_bytes().startswith(b'\x89PNG')
  for name in _NAMES:
    assert {p.name for p in (whole / name).iterdir()} == {
      'config.json',
      'machines.jsonl',
      'metrics.jsonl',
      '.lock',
      'checkpoints',
      'tensorboard',
      'learning_curve.png',
    }
    config = json.loads((whole / name / 'config.json').read_text())
    assert name == f'meta.inner_lr={config["meta"]["inner_lr"]},' + (
      f'seed={config["seed"]}'
    )
    rows = metrics_lib.read_jsonl(whole / name / 'metrics.jsonl')
    assert [row['env_steps'] for row in rows] == [10, 20, 30]
    assert all(row['time/compile_s'] == 0 for row in rows[1:])
    # Of all four runs together.
    steps = (
      rows[1]['throughput/gathered_steps_per_s'] * rows[1]['time/gather_s']
    )
    assert steps == pytest.approx(4 * 10)
    steps = {p.name for p in (whole / name / 'checkpoints').iterdir()}
    assert {'1', '2', '3'} <= steps
  # Neither seeds nor values give the same run.
  returns = {_rows(whole / name)[-1]['gathered/return'] for name in _NAMES}
  assert len(returns) == 4


def test_interrupted_sweep_equals_uninterrupted_one(
  whole: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """Bit for bit; SIGTERM finishes the iteration and saves it."""
  _sweep(tmp_path, fake.Interrupt(0, fake.PHASES[-1], fake.sigterm))
  assert all(len(_rows(tmp_path / name)) == 1 for name in _NAMES)
  listener = fake.Interrupt(99, '', fake.sigterm)
  _sweep(tmp_path, listener)
  assert listener.done == 1
  for name in _NAMES:
    assert _rows(tmp_path / name) == _rows(whole / name)


def test_a_sweep_ends_when_all_of_its_runs_are_solved(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  """Not when one of them is."""
  _sweep(
    tmp_path,
    progress_lib.Lines(),
    run__num_iterations=9,
    run__solved_at=-1e9,
  )
  assert all(len(_rows(tmp_path / name)) == 6 for name in _NAMES)
  said = capsys.readouterr()
  assert '6 of 6 iterations are done' in said.out + said.err
  assert 'continues' not in said.out + said.err

  watch = solved.Watch([None, None], 1.0, 0)  # type: ignore[list-item]
  for index in range(9):
    # The last three returns are those that count, whatever they are.
    returns = (2.0, 2.0 if 2 <= index <= 4 else 0.0)
    watch.add([{'eval/return_mean': x, 'time/eval_s': 1.0} for x in returns])
    assert watch.solved == (index >= 7)


def test_save_cut_short_goes_back_to_what_all_have(
  whole: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """Whether it was a later one or the first, even if one is to be kept."""
  saves = []
  save = checkpoint.Checkpointer.save

  def failing(self, step, tree):
    saves.append(step)
    if len(saves) in (2, 8):
      raise RuntimeError('power failure')
    save(self, step, tree)

  monkeypatch.setattr(checkpoint.Checkpointer, 'save', failing)
  listener = fake.Interrupt(99, '', fake.sigterm)
  with pytest.raises(RuntimeError, match='power failure'):
    _sweep(tmp_path, listener, run__keep_checkpoints=1)
  with (
    pytest.raises(RuntimeError, match='power failure'),
    pytest.warns(UserWarning, match=r'from iteration 0; .*superseded'),
  ):
    _sweep(tmp_path, listener, run__keep_checkpoints=1)
  assert listener.done == 0
  assert saves == [1, 1, 1, 1, 1, 1, 2, 2]
  with pytest.warns(UserWarning, match='from iteration 1; .*superseded'):
    _sweep(tmp_path, listener, run__keep_checkpoints=1)
  assert listener.done == 1
  for name in _NAMES:
    assert _rows(tmp_path / name) == _rows(whole / name)


def test_runs_without_a_common_checkpoint_are_an_error(
  whole: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """As after one of them was continued alone; nothing is thrown away."""
  folder = tmp_path / 'copy'
  shutil.copytree(whole, folder)
  kept = {name: {'1', '2'} for name in _NAMES} | {_NAMES[1]: {'3'}}
  for name, steps in kept.items():
    for step in {'1', '2', '3'} - steps:
      shutil.rmtree(folder / name / 'checkpoints' / step)
  with pytest.raises(
    checkpoint.CheckpointError, match='no checkpoint of the same iteration'
  ):
    _sweep(folder)
  for name, steps in kept.items():
    assert {p.name for p in (folder / name / 'checkpoints').iterdir()} >= steps
    assert _rows(folder / name) == _rows(whole / name)


def test_lost_checkpoints_are_an_error(
  whole: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """Starting all runs afresh would throw the others away."""
  folder = tmp_path / 'copy'
  shutil.copytree(whole, folder)
  shutil.rmtree(folder / _NAMES[1] / 'checkpoints')
  with pytest.raises(checkpoint.CheckpointError, match=r'seed=1.* has no'):
    _sweep(folder)
  for name in set(_NAMES) - {_NAMES[1]}:
    steps = {p.name for p in (folder / name / 'checkpoints').iterdir()}
    assert {'1', '2', '3'} <= steps


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'num_seeds': 3}, r'num_seeds=3: .* with 2'),
    ({'seed': 1}, r'config\.seed=1: .* with 0'),
    (
      {'values': {'meta.inner_lr': (0.1,)}},
      r'sweep\.meta\.inner_lr=\[0\.1\]: .* \[0\.001, 0\.1\]',
    ),
    ({'values': {}}, r'sweep\.meta\.inner_lr: .* \[0\.001, 0\.1\]'),
    ({'trust_region__max_kl': 0.5}, r'trust_region\.max_kl=0\.5: .* 0\.01'),
  ],
)
def test_changed_sweep_is_refused_by_name(
  change: dict, said: str, whole: pathlib.Path
) -> None:
  """Both values are told, and nothing is written."""
  before = {p: p.stat().st_mtime_ns for p in whole.rglob('*')}
  with pytest.raises(config_lib.ConfigError, match=said):
    _sweep(whole, **change)
  assert {p: p.stat().st_mtime_ns for p in whole.rglob('*')} == before


def test_sweeps_and_runs_keep_apart(whole: pathlib.Path) -> None:
  """The folder of one is none for the other."""
  with pytest.raises(config_lib.ConfigError, match='contains a sweep'):
    loop.train(tiny.point_config(), whole)
  with pytest.raises(config_lib.ConfigError, match='contains a single run'):
    _sweep(whole / _NAMES[0])


# --- what the user sees


def test_table_and_curves(tmp_path: pathlib.Path) -> None:
  """Mean and sample deviation of each setting; what is not finite shows."""
  grid = grid_lib.Grid(tiny.point_config(), _VALUES, num_seeds=2)

  def rows(*returns: float | None) -> list[dict[str, float]]:
    return [
      {
        'env_steps': 10.0 * index,
        'eval/return_mean': math.nan if value is None else value,
        'time/eval_s': float(value is not None),
      }
      for index, value in enumerate(returns)
    ]

  # The last iteration of the first two was not evaluated.
  by_run = [rows(9, 1, None), rows(9, 3, None), rows(5, 6), rows(5, math.nan)]
  lines = sweep.table(grid, dict(zip(_NAMES, by_run, strict=True)))
  assert [line.split() for line in lines] == [
    ['setting', 'return'],
    ['meta.inner_lr=0.001', '2', '±', '1.4'],
    ['meta.inner_lr=0.1', 'nan', '±', 'nan'],
  ]
  single = grid_lib.Grid(tiny.point_config(), {})
  assert sweep.table(single, {'seed=0': rows(4)})[1].split()[-1] == '4'

  path = tmp_path / 'curves.png'
  plot.sweep_curves({'a': by_run[:2], 'b': by_run[2:]}, path)
  assert path.read_bytes().startswith(b'\x89PNG')
  plot.sweep_curves({str(i): by_run[:2] for i in range(12)}, path)


def test_progress_is_the_mean_over_runs(
  whole: pathlib.Path, printed: list[str]
) -> None:
  """One line per iteration for all runs, and the table at the end."""
  assert (
    printed[0] == '4 runs at once: 2 settings, seeds 0 to 1, on 2 of 8 devices'
  )
  rows = [_rows(whole / name)[0] for name in _NAMES]
  mean = np.mean([row['eval/return_mean'] for row in rows])
  assert f'iteration 1/3  steps 10  eval {mean:.4g}' in printed[5]
  assert printed[-5].split() == ['setting', 'return']
  assert str(whole / 'learning_curves.png') in printed[-2]


# --- the command line


def _parse(*arguments: str) -> sweep_flags.Arguments:
  return sweep_flags.parse(
    ['sweep.py', *arguments],
    default_config=_CONFIGS / 'mbmpo' / 'point.py',
    flag_values=flags.FlagValues(),
  )


def test_grid_is_the_product_of_values_and_seeds() -> None:
  """Names and configurations agree; what is not swept stays."""
  grid, workdir, num_devices, _ = _parse(
    '--config.seed=5',
    '--num_devices=4',
    '--num_seeds=2',
    '--sweep.model.learning_rate',
    '1e-3,0.01',
    '--sweep.trust_region.max_kl=0.02',
    '--config.advantage.discount=0.9',
  )
  assert (workdir, num_devices) == (pathlib.Path('runs/mbmpo/point_sweep'), 4)
  runs = grid.runs()
  assert list(runs) == [
    'model.learning_rate=0.001,trust_region.max_kl=0.02,seed=5',
    'model.learning_rate=0.001,trust_region.max_kl=0.02,seed=6',
    'model.learning_rate=0.01,trust_region.max_kl=0.02,seed=5',
    'model.learning_rate=0.01,trust_region.max_kl=0.02,seed=6',
  ]
  last = list(runs.values())[-1]
  assert last == config_lib.replaced(
    grid.config,
    {'trust_region.max_kl': 0.02, 'model.learning_rate': 0.01, 'seed': 6},
  )
  assert last.advantage.discount == 0.9
  assert list(_parse().grid.runs()) == ['seed=0']
  assert _parse().num_devices is None


# Where not every choice has all numbers: choices, and numbers they lack.
_PLANNERS: list[tuple[dict[str, Any], set[str]]] = [
  (
    {'planner.kind': 'cem', 'planner.members': 'all'},
    {'planner.temperature'},
  ),
  (
    {'planner.kind': 'mppi', 'planner.members': 'all'},
    {'planner.min_std', 'planner.smoothing'},
  ),
]
_CHOICES: dict[str, list[tuple[dict[str, Any], set[str]]]] = {
  'ddpg': [({'learn.kind': 'td3'}, set())],
  'l2a': _PLANNERS,
  'm3po': [({'batches.kind': 'mixed'}, set())],
  'mb_mpc': _PLANNERS,
}


@pytest.mark.parametrize('name', algorithms.names())
def test_every_numeric_hyperparameter_can_be_swept(name: str) -> None:
  """And reaches the state under the name it has there."""
  kind = algorithms.config(name)
  swept: set[str] = set()
  for choices, lacking in _CHOICES.get(name, [({}, set())]):
    whole = config_lib.replaced(kind(), choices)
    values = {f: (0.5,) for f in config_lib.sweepable(kind) if f not in lacking}
    (config,) = grid_lib.Grid(whole, values).runs().values()
    hyper = base.hyper(config)
    assert {float(hyper[field]) for field in values} == {0.5}
    assert hyper.keys() - values == lacking
    swept |= values.keys()
  assert swept == set(config_lib.sweepable(kind))


@pytest.mark.parametrize(
  ('argument', 'said'),
  [
    (
      '--sweep.meta.inner_rl=1',
      ['inner_rl', "'meta.inner_lr'", 'trust_region.max_kl'],
    ),
    (
      '--sweep.model_rollouts.horizon=1',
      ['model_rollouts.horizon: cannot', 'meta.inner_lr'],
    ),
    ('--sweep.seed=1,2', ['sweep.seed', 'num_seeds']),
    ('--sweep.meta.inner_lr=0.1,x', ['inner_lr=0.1,x', 'finite float >= 0']),
    ('--sweep.meta.inner_lr=', ['sweep.meta.inner_lr=', 'finite float >= 0']),
    ('--sweep.meta.inner_lr=1,-1', ['meta.inner_lr=-1.0', 'float >= 0']),
    ('--sweep.advantage.discount=0.9,2', ['advantage.discount=2.0', '<= 1']),
    ('--sweep.trust_region.max_kl=nan', ['trust_region.max_kl=nan', 'finite']),
    (
      '--sweep.trust_region.max_kl=0.1,1e-1',
      ['sweep.trust_region.max_kl', 'only once'],
    ),
    ('--num_seeds=0', ['num_seeds=0', 'an int >= 1']),
    ('--num_seeds=two', ['--num_seeds=two', 'an int >= 1']),
    ('--num_devices=0', ['num_devices=0', 'not a positive integer']),
    (
      '--num_seed=2',
      ['--num_seed=2', "'num_seeds'", '--sweep.trust_region.max_kl'],
    ),
    ('--config.seed=2147483647', []),
    ('--config.meta.inner_rl=1', ["'meta.inner_lr'"]),
  ],
)
def test_mistake_is_one_line_with_what_is_allowed(
  argument: str, said: list[str]
) -> None:
  """The message names the field, the nearest right one, what is allowed."""
  if not said:
    _parse(argument)
    with pytest.raises(config_lib.ConfigError, match='seed=2147483648'):
      _parse(argument, '--num_seeds=2')
    return
  with pytest.raises(config_lib.ConfigError) as error:
    _parse(argument)
  message = str(error.value)
  assert '\n' not in message
  for words in said:
    assert words in message


@pytest.mark.slow
def test_binary_shares_the_runs_out(tmp_path: pathlib.Path) -> None:
  """Of a CPU it makes so many devices."""
  environment = runs.environment()
  environment.pop('XLA_FLAGS', None)
  done = subprocess.run(
    [
      sys.executable,
      str(_ROOT / 'experiments' / 'sweep.py'),
      *runs.POINT,
      '--config.run.num_iterations=1',
      f'--workdir={tmp_path / "sweep"}',
      '--num_seeds=6',
      '--num_devices=3',
    ],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert '6 runs at once: 1 settings, seeds 0 to 5, on 3 of 3' in done.stdout
  found = {path.name for path in (tmp_path / 'sweep').glob('seed=*')}
  assert found == {f'seed={seed}' for seed in range(6)}


def test_binary_exits_with_2_and_one_line(tmp_path: pathlib.Path) -> None:
  """And writes nothing."""
  done = subprocess.run(
    [
      sys.executable,
      str(_ROOT / 'experiments' / 'sweep.py'),
      '--sweep.meta.inner_rl=0.1',
    ],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(_ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.count('\n') == 1
  assert 'meta.inner_lr' in done.stderr
  assert list(tmp_path.iterdir()) == []
