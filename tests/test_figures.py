"""Figures: what they say of runs, what they cost, and what they leave."""

import contextlib
import dataclasses
import functools
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.figures import gssm_methods
from experiments.figures import m3po_methods
from mbmpo_jax import algorithms
from mbmpo_jax import backend
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training import signals
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import estimate
from mbmpo_jax.training.figures import make as make_lib
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import state_space
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.reporting import plot_paper
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import lock
from tests import fake
from tests import tiny

_ROOT = pathlib.Path(__file__).parents[1]
_NAMES = (
  *(f'fig{i}' for i in range(1, 8)),
  'wall_clock',
  'm3po_fig7',
  'm3po_fig9',
  *(f'gssm_{name}' for name in ('tables', 'fig2', 'fig3', 'fig6')),
)


# --- what a figure takes


def test_another_number_of_seeds(tmp_path) -> None:
  """The first runs stay the same."""
  figure = _figures()['m3po_fig9']
  flag_values = command.define(figure, command.flags.FlagValues())
  argv = ['m3po_fig9.py', '--quick', f'--workdir={tmp_path}', '--num_seeds=5']
  parsed = command.parse(figure, argv, flag_values)
  with pytest.raises(command.MissingError) as error:
    command.draw(figure, parsed)
  missing = {note.split(':')[0] for note in error.value.__notes__}
  whole = figure.groups('quick', figure.methods)
  known = {run.name for group in whole for run in group.runs}
  folders = {name.rpartition('/')[0] for name in known}
  assert missing == {f'{x}/seed={n}' for x in folders for n in range(5)}
  assert known < missing
  more = study.with_seeds(whole[0], 5).runs
  assert more[: len(whole[0].runs)] == whole[0].runs
  assert [run.config.seed for run in more] == list(range(5))


def test_a_sweep_keeps_its_number_of_seeds(capsys) -> None:
  figure = _figures()['fig7']
  flag_values = command.define(figure, command.flags.FlagValues())
  with pytest.raises(SystemExit):
    command.parse(figure, ['fig7.py', '--quick', '--num_seeds=5'], flag_values)
  error = capsys.readouterr().err
  assert 'are a sweep, which has' in error and error.count('\n') == 1


def _seconds(config) -> float:
  return 10.0 * config.run.num_iterations


def test_time_left_goes_by_what_runs_took(tmp_path) -> None:
  """Twice as slow as the table: so is the rest. Nothing is done twice."""
  config = tiny.point_config()
  config.run.num_iterations = 4
  group = study.seeds('world', config, 3)
  runs = study.runs([group, group])
  assert len(runs) == 3
  left = functools.partial(estimate.seconds_left, runs, tmp_path, _seconds)
  assert left() == 120
  folder = tmp_path / runs[1].name
  folder.mkdir(parents=True)
  row = {'env_steps': 1, 'time/learn_s': 15.0, 'time/eval_s': 5.0}
  lines = [json.dumps({'iteration': index} | row) for index in range(2)]
  (folder / 'metrics.jsonl').write_text('\n'.join([*lines, '']))
  assert left() == pytest.approx(2 * (120 - 20))


def test_a_shorter_run_is_the_beginning_of_a_longer_one(tmp_path) -> None:
  short, long = (
    study.seeds(
      'world', tiny.point_config(run__num_iterations=n), 2, key=key, folder='x'
    )
    for key, n in (('short', 2), ('long', 4))
  )
  for groups in ([short, long], [long, short]):
    runs = study.runs(groups)
    assert [run.name for run in runs] == ['world/x/seed=0', 'world/x/seed=1']
    assert [run.config.run.num_iterations for run in runs] == [4, 4]
  folder = tmp_path / 'world/x/seed=0'
  folder.mkdir(parents=True)
  with (folder / 'metrics.jsonl').open('w') as file:
    for index in range(3):
      print(json.dumps({'iteration': index, 'env_steps': index}), file=file)
  found = study.read('quick', tmp_path, [short, long])
  assert [len(entry.rows[0]) for entry in found.groups] == [2, 3]
  assert [len(entry.finished) for entry in found.groups] == [1, 0]


def test_a_run_is_done_when_its_last_checkpoint_is_written(tmp_path) -> None:
  config = tiny.point_config(run__num_iterations=2)
  group = study.seeds('world', config, 1)
  folder = tmp_path / group.runs[0].name
  folder.mkdir(parents=True)
  rows = [json.dumps({'iteration': i, 'env_steps': i}) for i in range(2)]
  (folder / 'metrics.jsonl').write_text('\n'.join([*rows, '']))
  (folder / 'checkpoints' / '1').mkdir(parents=True)
  found = study.read('quick', tmp_path, [group])
  assert not found.groups[0].finished
  assert found.missing == [f'{group.runs[0].name}: 1 of 2 iterations']
  (folder / 'checkpoints' / '2').mkdir()
  assert study.read('quick', tmp_path, [group]).groups[0].finished


def test_memory_is_that_of_the_state(tmp_path) -> None:
  """Counted without computing it; the plan says what there is to do."""
  config = tiny.point_config()
  algorithm = algorithms.make('mbmpo', envs.make('point'), config)
  state = jax.eval_shape(
    algorithm.init, jax.random.PRNGKey(0), base.hyper(config)
  )
  nbytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  assert estimate.state_bytes(config) == nbytes
  groups = [study.seeds('world', config, 3, label='x')]
  text = '\n'.join(estimate.plan(groups, tmp_path, _seconds))
  assert 'world: x  3      4k           16 min 40 s  0 of 3' in text
  assert 'to do: 3 of 3 runs' in text
  assert 'time: about 50 min' in text
  assert f'4 copies of {nbytes / 1e6:.3g} MB' in text


def test_a_plan_holds_runs_that_explore_for_several_iterations(tmp_path):
  """What a run may have is not asked of a shortened one."""
  config = tiny.of('sac')
  steps = config.collect.steps
  values = {'run.num_iterations': 4, 'collect.start_steps': 2 * steps}
  group = study.seeds('world', config_lib.replaced(config, values), 2)
  text = '\n'.join(estimate.plan([group], tmp_path, _seconds))
  assert 'to do: 2 of 2 runs' in text


# --- the command


def _figure() -> command.Figure:
  """A figure of four runs that compile in no time."""
  config = tiny.point_config(run__num_iterations=3)

  def groups(size, methods):
    del size
    grid = grid_lib.Grid(config, {'meta.inner_lr': (0.0, 0.1)})
    looks = {s.label: (s.label, '#000000') for s in grid.settings}
    return [
      *(study.seeds('point', config, 1, key=name) for name in methods),
      *study.swept('alpha', 'alpha', grid, looks),
    ]

  def claims(found):
    first, second, *_ = found.groups
    return [verdicts.better(first, second, 'it is better')]

  return command.Figure(
    name='fig0',
    about='noise',
    methods=('mbmpo', 'other'),
    groups=groups,
    claims=claims,
    draw=lambda found: plot_paper.curves(shown.panels(found, log=True)),
    numbers=shown.numbers,
    costs=_seconds,
  )


def _arguments(root: pathlib.Path) -> command.Arguments:
  return command.Arguments(
    'tiny',
    root,
    methods=('mbmpo', 'other'),
    envs=('point',),
    num_seeds=None,
    only_plot=False,
    again='python fig0.py --tiny',
  )


def _make(root: pathlib.Path, progress=progress_lib.Silent) -> None:
  with signals.StopRequest() as stop:
    command.make(
      _figure(),
      _arguments(root),
      stop=stop,
      make_progress=progress,
      make_algorithm=fake.make,
    )


class _Watch(progress_lib.Silent):
  """Remembers where runs began."""

  begun: list[int]

  def start(self, *, total, done, metrics) -> None:
    self.begun.append(done)


def test_a_figure_is_made_goes_on_and_is_drawn(tmp_path, capsys) -> None:
  """Stopped in its first run; another process is at its second."""
  _make(tmp_path, lambda: fake.Interrupt(1, 'learn', fake.sigterm))
  assert 'about' in capsys.readouterr().out
  done = tmp_path / 'point' / 'mbmpo' / 'seed=0' / 'metrics.jsonl'
  assert len(done.read_text().splitlines()) == 2
  with pytest.raises(command.MissingError) as error:
    command.draw(_figure(), _arguments(tmp_path))
  assert error.value.exit_code == 2
  assert str(error.value) == (
    'fig0: 4 runs are not done; `python fig0.py --tiny` makes them:'
  )
  assert error.value.__notes__[:2] == [
    'point/mbmpo/seed=0: 2 of 3 iterations',
    'point/other/seed=0: 0 of 3 iterations',
  ]
  assert 'is undecided' in (tmp_path / 'fig0.txt').read_text()

  _Watch.begun = []
  held = tmp_path / 'point' / 'other' / 'seed=0'
  with lock.hold(held), pytest.raises(make_lib.ElsewhereError) as error:
    _make(tmp_path, _Watch)
  assert str(error.value).startswith(
    '1 runs are being made by other processes, such as point/other/seed=0'
  )
  assert _Watch.begun == [2, 0]
  assert len(done.read_text().splitlines()) == 3
  kept = done.stat().st_mtime_ns
  _make(tmp_path, _Watch)
  _make(tmp_path, _Watch)
  assert _Watch.begun == [2, 0, 0] and done.stat().st_mtime_ns == kept

  (claim,) = command.draw(_figure(), _arguments(tmp_path))
  out = capsys.readouterr().out
  assert 'all 4 runs are done' in out and claim.sentence in out
  for ending, start in (('.png', b'\x89PNG'), ('.pdf', b'%PDF')):
    assert (tmp_path / f'fig0{ending}').read_bytes().startswith(start)
  tree = json.loads((tmp_path / 'fig0.json').read_text())
  assert tree['missing'] == []
  assert tree['claims'][0]['sentence'] == claim.sentence
  shows = tree['shows']
  assert list(shows['point']) == ['mbmpo', 'other']
  assert list(shows['alpha']) == ['meta.inner_lr=0.0', 'meta.inner_lr=0.1']
  assert shows['point']['other']['curves'][0]['steps'] == [10, 20, 30]
  # An ordinary run: it can go on alone.
  assert (done.parent / 'checkpoints' / '3').is_dir()
  config = json.loads((done.parent / 'config.json').read_text())
  assert config['algorithm'] == 'mbmpo'


def test_a_stop_leaves_a_figure_unfinished_only_if_runs_are_left(tmp_path):
  """Even if the runs that are left are those of another process."""
  seen: list[int] = []

  class Asks(progress_lib.Silent):
    def iteration(self, index, metrics) -> None:
      del metrics
      seen.append(index)
      if len(seen) in (6, 9):  # The last iterations of all that can be made.
        stop.requested = 'SIGTERM'

  obeyed = []
  for company in (lock.hold(tmp_path / 'point' / 'other' / 'seed=0'), None):
    stop = signals.StopRequest()
    with company or contextlib.nullcontext():
      command.make(
        _figure(),
        _arguments(tmp_path),
        stop=stop,
        make_progress=Asks,
        make_algorithm=fake.make,
      )
    obeyed.append(stop.obeyed)
  assert len(seen) == 9 and obeyed == [True, False]


@pytest.mark.parametrize('left', [False, True])
def test_a_finished_figure_is_drawn_in_spite_of_a_signal(
  left, tmp_path, monkeypatch
):
  """Otherwise the program exits as one that was stopped."""
  drawn = []

  def make(figure, arguments, *, stop):
    del figure, arguments
    stop.requested, stop.obeyed = 'SIGTERM', left

  monkeypatch.setattr(command, 'make', make)
  monkeypatch.setattr(command, 'draw', lambda *x: drawn.append(x))
  monkeypatch.setattr(backend, 'split_cpu', lambda _: None)
  monkeypatch.setattr(cache, 'enable', lambda: None)
  with pytest.raises(SystemExit) if left else contextlib.nullcontext():
    command._main(_figure(), _arguments(tmp_path))
  assert bool(drawn) != left


def test_what_others_were_at_is_looked_at_again(tmp_path) -> None:
  """Another process leaves a run unfinished while the rest is made."""
  other = contextlib.ExitStack()

  class Leaves(progress_lib.Silent):
    def message(self, text: str) -> None:
      if 'alpha' in text:
        other.close()

  other.enter_context(lock.hold(tmp_path / 'point' / 'mbmpo' / 'seed=0'))
  _make(tmp_path, Leaves)
  command.draw(_figure(), _arguments(tmp_path))


def _run(name: str, *arguments: str, cwd: pathlib.Path, **variables: str):
  return subprocess.run(
    [sys.executable, _ROOT / 'experiments' / 'figures' / name, *arguments],
    cwd=cwd,
    env={**os.environ, 'PYTHONPATH': str(_ROOT), **variables},
    capture_output=True,
    text=True,
    check=False,
  )


def _figures() -> dict[str, command.Figure]:
  return {
    name: importlib.import_module(f'experiments.figures.{name}').FIGURE
    for name in _NAMES
  }


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ((), 'no size: exactly one of --tiny, --quick, --full must be'),
    (('--tiny', '--full'), '--tiny --full: exactly one of'),
    (('--quick', '--methods=mbmpo,me_trop'), "did you mean 'me_trpo'?"),
    (('--quick', '--methods='), '--methods=: must name at least one of mbmpo'),
    (('--quick', '--envs='), '--envs=: must name at least one of point'),
    (('--quick', '--envs=half_cheeta'), "did you mean 'half_cheetah'?"),
    (('--quick', '--num_seeds=0'), 'num_seeds=0: '),
    (('--quick', '--num_seeds=1001'), 'num_seeds=1001: '),
    (('--quick', '--workdir='), "--workdir='': must name a folder"),
    (('--quick', '--only_plto'), "did you mean 'only_plot'?"),
    (('--quick', 'x'), 'x: unexpected argument'),
  ],
)
def test_bad_input_is_one_line(arguments, said, capsys) -> None:
  figure = _figures()['fig2']
  flag_values = command.define(figure, command.flags.FlagValues())
  with pytest.raises(SystemExit) as stopped:
    command.parse(figure, ['fig2.py', *arguments], flag_values)
  assert stopped.value.code == 2
  error = capsys.readouterr().err
  assert said in error and error.count('\n') == 1


def test_command_line() -> None:
  """Methods come in the figure's order; a folder for each size."""
  figure = _figures()['fig2']
  flag_values = command.define(figure, command.flags.FlagValues())
  argv = ['fig2.py', '--quick', '--methods=mb_mpc,mbmpo', '--only_plot']
  parsed = command.parse(figure, argv, flag_values)
  assert parsed.methods == ('mbmpo', 'mb_mpc')
  assert parsed.root == pathlib.Path('runs/figures/fig1/quick')  # Shared.
  assert parsed.envs == ('point', 'half_cheetah')
  assert parsed.only_plot
  assert parsed.again == 'python fig2.py --quick --methods=mb_mpc,mbmpo'


@pytest.mark.parametrize('name', _NAMES)
def test_a_part_of_the_environments(name, tmp_path) -> None:
  """The plan has no other environment, and its drawing no other runs."""
  figure = _figures()[name]
  whole = figure.groups('quick', figure.methods)
  env = whole[0].runs[0].config.env.name
  flag_values = command.define(figure, command.flags.FlagValues())
  argv = [name, '--quick', f'--envs={env}', f'--workdir={tmp_path}']
  parsed = command.parse(figure, argv, flag_values)
  assert parsed.envs == (env,)
  expected = {
    run.name
    for group in whole
    for run in group.runs
    if run.config.env.name == env
  }
  with pytest.raises(command.MissingError) as error:
    command.draw(figure, parsed)
  missing = {note.split(':')[0] for note in error.value.__notes__}
  assert missing == expected


@functools.cache
def _world(name: str, variant: str | None) -> envs.Environment:
  return envs.make(name, variant)


@pytest.mark.parametrize('size', command.SIZES)
@pytest.mark.parametrize('name', _NAMES)
def test_every_figure_has_runs_that_are_allowed(name, size) -> None:
  """Valid, named once, as many seeds as were promised, and at a known cost."""
  figure = _figures()[name]
  groups = figure.groups(size, figure.methods)
  least = {'fig3': 5}.get(name, 3)
  made: dict[str, config_lib.Experiment] = {}
  for group in groups:
    if name == 'm3po_fig7' and group.panel in m3po_methods.ALONE[size]:
      assert len(group.runs) == 1  # one curve, as its --help says
    else:
      assert len(group.runs) >= (2 if size == 'tiny' else least)
    assert [run.config.seed for run in group.runs] == list(
      range(len(group.runs))
    )
    for run in group.runs:
      env = _world(run.config.env.name, run.config.env.variant)
      validation.validate(
        run.config, env_max_episode_steps=env.max_episode_steps
      )
      # How long a run is trained is all that may differ.
      config = dataclasses.replace(run.config, run=config_lib.Run())
      assert made.setdefault(run.name, config) == config
    if isinstance(env, envs.Tasked):  # The runs differ only in the seed.
      length = run.config.collect.episode_length
      envs.from_config(run.config.env, episode_length=length)
  left = estimate.seconds_left(
    study.runs(groups), pathlib.Path('nowhere'), figure.costs
  )
  quick = dict.fromkeys(('fig7', 'm3po_fig7', 'm3po_fig9'), 5)
  quick |= dict.fromkeys(('gssm_tables', 'gssm_fig2'), 10)
  hours = {'tiny': 0.3, 'quick': quick.get(name, 3)}
  assert 0 < left < 3600 * hours.get(size, math.inf)


@pytest.mark.parametrize('size', command.SIZES)
def test_all_methods_have_room_for_what_they_are_told(size) -> None:
  """Of a test task, that is; L2A and DR-PPO are told nothing."""
  for world in gssm_methods.WORLDS[size]:
    told = gssm_methods.context(world, size)
    for method in gssm_methods.compared(world, tuple(gssm_methods.METHODS)):
      known = config_lib.flatten(gssm_methods.config(method, world, size))
      names = {'model.context_size', 'context.window'} & set(known)
      assert all(known[name] >= told for name in names), (world, method)


@pytest.mark.slow
@pytest.mark.parametrize('name', _NAMES)
def test_every_figure_is_made_at_its_smallest(name, tmp_path) -> None:
  """As users run it, but for `--only_plot` in an empty folder at first."""
  done = _run(f'{name}.py', '--tiny', '--only_plot', cwd=tmp_path)
  assert done.returncode == 2
  assert 'runs are not done; `python ' in done.stderr
  done = _run(f'{name}.py', '--tiny', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  folder = tmp_path / 'runs' / 'figures'
  folder /= _figures()[name].home or name
  for ending in ('json', 'txt', 'png', 'pdf'):
    assert (folder / 'tiny' / f'{name}.{ending}').stat().st_size
  done = _run(f'{name}.py', '--tiny', '--only_plot', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert 'The claim that' in done.stdout


# --- the state space


def test_maps_of_a_known_world() -> None:
  """Two linear models and two policies, by hand in float64."""
  rng = np.random.default_rng(0)
  weights, obs = rng.normal(size=(3, 2, 2)), rng.normal(size=(5, 2))
  theta, adapted = rng.normal(size=(2, 2)), rng.normal(size=(4, 2, 2))
  policy = policies.memoryless(
    lambda key: None,
    lambda params, obs: distributions.Gaussian(
      obs @ params, jnp.full((1, 2), 0.3)
    ),
    noise=functools.partial(distributions.normal_noise, action_size=2),
  )
  dynamics = models.Dynamics(
    init=lambda key: None,
    ready=lambda params, statistics: None,
    start=lambda model, key, context, num: (),
    predict=lambda model, carry, obs, action, key: (
      carry,
      models.Prediction(obs + action @ model),
    ),
    loss=lambda *_: None,
  )
  args = (jnp.asarray(x, jnp.float32) for x in (weights, theta, adapted, obs))
  deviation, kl = state_space.measure(policy, dynamics, *args)
  action = np.clip(obs @ theta, -1, 1)
  predictions = np.stack([obs + action @ w for w in weights])
  np.testing.assert_allclose(deviation, predictions.std(0).mean(-1), rtol=1e-5)
  gaps = [(obs @ theta - obs @ other) for other in adapted]
  expected = np.mean(
    [0.5 * np.sum((g / np.exp(0.3)) ** 2, -1) for g in gaps], 0
  )
  np.testing.assert_allclose(kl, expected, rtol=1e-4)


def test_correlation_and_grid() -> None:
  """Pearson's over all points; the grid begins at the lower left."""
  np.testing.assert_array_equal(
    state_space.grid(-1, 1, 3)[:4], [[-1, -1], [0, -1], [1, -1], [-1, 0]]
  )
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(2, 4, 4))
  expected = stats.pearsonr(a.ravel(), b.ravel()).statistic
  assert state_space.Maps(1, a, b).correlation == pytest.approx(expected)
