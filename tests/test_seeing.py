"""What a person sees of a run: progress, a trace, and pictures of runs."""

import gzip
import io
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import rich.console

from mbmpo_jax import algorithms
from mbmpo_jax import errors
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import loop
from mbmpo_jax.training.reporting import history
from mbmpo_jax.training.reporting import metrics as metrics_lib
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import plot_runs
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import folder as folder_lib
from tests import fake
from tests import tiny

_ROOT = pathlib.Path(__file__).parents[1]
_RESULTS = _ROOT / 'benchmarks' / 'results'


def _train(config, workdir, progress=None, **kwargs):
  progress = progress or progress_lib.Silent()
  return loop.train(
    config, workdir, make_algorithm=fake.make, progress=progress, **kwargs
  )


# --- progress


def test_time_left_is_the_recent_median_without_compilation() -> None:
  """One slow iteration does not spoil it, and it counts down."""
  now = 100.0
  left = pace.Pace(lambda: now)
  left.start(total=20, done=3)
  assert math.isnan(left.left())
  now += 50
  left.iteration({'time/compile_s': 48.0})
  assert left.left() == 2.0 * 16
  for seconds in (2.0, 90.0, 2.0):
    now += seconds
    left.iteration({'time/compile_s': 0.0})
  assert left.left() == 2.0 * 13
  now += 1.5
  assert left.left() == 2.0 * 13 - 1.5
  now += 100  # A long iteration is not counted as more than one.
  assert left.left() == 2.0 * 12
  for _ in range(10):
    now += 7.0
    left.iteration({})
  assert left.left() == 7.0 * 3
  for _ in range(3):
    left.iteration({})
  now += 5.0
  assert left.left() == 0.0


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0.04, '0.0 s'),
    (9.94, '9.9 s'),
    (9.96, '10 s'),
    (59.4, '59 s'),
    (59.9, '1 min 0 s'),
    (460, '7 min 40 s'),
    (3599.9, '1 h 0 min'),
    (93900, '26 h 5 min'),
    (math.nan, '?'),
  ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
  """Two units at most."""
  assert pace.duration(seconds) == text


@pytest.mark.parametrize(
  ('number', 'text'),
  [
    (0, '0'),
    (87, '87'),
    (999.4, '999'),
    (999.6, '1k'),
    (98_507, '98.5k'),
    (1_050_000, '1.05M'),
    (2e9, '2G'),
    (-4000, '-4k'),
  ],
)
def test_counts_have_three_digits(number: float, text: str) -> None:
  """With the unit that fits."""
  assert pace.count(number) == text


def test_lines_say_speed_and_time_left(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  """All but the last line have a time left; one line sums the run up."""
  config = tiny.point_config(run__num_iterations=3)
  _train(config, tmp_path, progress_lib.Lines())
  out = capsys.readouterr().out.splitlines()
  lines = [line for line in out if line.startswith('iteration ')]
  assert all(re.search(r'\S+ gathered steps/s', x) for x in lines)
  assert [line.endswith(' left') for line in lines] == [True, True, False]
  (last,) = [line for line in out if 'iterations are done' in line]
  assert last.startswith('3 of 3 iterations are done: 30 real transitions in ')
  rows = history.find([tmp_path])[0].rows
  for text in (
    f'return {rows[-1]["eval/return_mean"]:.4g}, ',
    f'best {rows[-1]["eval/best_return"]:.4g} ± '
    f'{rows[-1]["eval/best_error"]:.2g} '
    f'(iteration {rows[-1]["eval/best_iteration"] + 1:.0f}); ',
    f'everything is in {tmp_path}',
  ):
    assert text in last


def test_outcome_of_a_run_without_rows_or_evaluations() -> None:
  """What there is."""
  assert progress_lib.outcome([], 5) == '0 of 5 iterations are done'
  row = {'env_steps': 1e6, 'time/fit_s': 60.0, 'time/compile_s': 6.0}
  row['eval/return_mean'] = math.nan
  assert progress_lib.outcome([row], 5) == (
    '1 of 5 iterations are done: 1,000,000 real transitions in 1 min 6 s'
  )


def test_live_display_fits_a_terminal(tmp_path: pathlib.Path) -> None:
  """80 columns: bar, time left and phase; returns; speed."""
  screen = io.StringIO()
  console = rich.console.Console(
    file=screen, force_terminal=True, width=80, color_system=None
  )
  seen = []

  class Spy(progress_lib.Live):
    def phase(self, name: str, *, compiling: bool = False) -> None:
      super().phase(name, compiling=compiling)
      still = rich.console.Console(file=io.StringIO(), width=80)
      still.print(self._live.renderable)
      seen.append(still.file.getvalue())

  config = tiny.point_config(run__num_iterations=3)
  _train(config, tmp_path, Spy(console))
  assert 'left' not in seen[0] and '0/3' in seen[0]
  assert 'compiling gather' in seen[0]
  bar, returns, speed = seen[-1].splitlines()
  assert re.search(r'2/3 \S+ s left evaluate', bar)
  assert re.match(r'eval \S+  gathered \S+  learned \S+', returns)
  assert re.fullmatch(r'\S+ gathered steps/s *', speed)
  assert 'everything is in' in screen.getvalue()


# --- a trace


def _traces(workdir: pathlib.Path) -> list[pathlib.Path]:
  return sorted((workdir / 'profile').rglob('*.trace.json.gz'))


def _annotations(trace: pathlib.Path) -> list[str]:
  """The names of iterations and phases in a trace, in their order."""
  events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
  names = ('iteration', *fake.PHASES, 'evaluate')
  found = [e for e in events if e.get('ph') == 'X' and e['name'] in names]
  found.sort(key=lambda event: event['ts'])
  return [
    f'{e["name"]} {e["args"]["step_num"]}'
    if e['name'] == 'iteration'
    else e['name']
    for e in found
  ]


class _Said(progress_lib.Silent):
  def __init__(self) -> None:
    self.text = ''

  def message(self, text: str) -> None:
    self.text += text + '\n'


def test_profile_traces_one_iteration_that_compiles_nothing(
  tmp_path: pathlib.Path,
) -> None:
  """Evaluation is first compiled in iteration 0; a resumed run traces too."""
  config = tiny.point_config(run__num_iterations=4)
  plain = _train(config, tmp_path / 'plain')
  said = _Said()
  traced = _train(config, tmp_path / 'run', said, profile=True)
  (trace,) = _traces(tmp_path / 'run')
  phases = [*fake.PHASES, 'evaluate']
  assert _annotations(trace) == ['iteration 1', *phases]
  assert list(trace.parent.glob('*.xplane.pb'))
  assert f'iteration 2 was traced: {tmp_path / "run" / "profile"}' in said.text
  assert 'ui.perfetto.dev' in said.text
  assert plain.keys() == traced.keys()

  # Iteration 5 is the first with an evaluation, and compiles it.
  shutil.rmtree(tmp_path / 'run' / 'profile')
  config.run.num_iterations = 8
  config.run.eval_every = 5
  _train(config, tmp_path / 'run', said, profile=True)
  (trace,) = _traces(tmp_path / 'run')
  assert _annotations(trace) == ['iteration 6', *phases[:3]]


def test_profile_without_a_steady_iteration_says_so(
  tmp_path: pathlib.Path,
) -> None:
  """And writes nothing."""
  said = _Said()
  config = tiny.point_config(run__num_iterations=1)
  _train(config, tmp_path, said, profile=True)
  assert 'nothing was traced' in said.text
  assert not (tmp_path / 'profile').exists()


@pytest.mark.parametrize('broken', ['start_trace', 'stop_trace'])
def test_profiler_that_fails_costs_a_warning(
  broken: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Training goes on, to the same numbers."""

  def fail(*args, **kwargs):
    raise RuntimeError('no profiler here')

  config = tiny.point_config(run__num_iterations=3)
  stop_trace = jax.profiler.stop_trace
  monkeypatch.setattr(jax.profiler, broken, fail)
  with pytest.warns(UserWarning, match='no profiler here'):
    row = _train(config, tmp_path, profile=True)
  if broken == 'stop_trace':
    stop_trace()
  assert row['iteration'] == 2


def test_interrupted_trace_is_closed(tmp_path: pathlib.Path) -> None:
  """So that the next run in the process can trace again."""
  config = tiny.point_config(run__num_iterations=4)
  with pytest.raises(RuntimeError, match='power failure'):
    _train(
      config, tmp_path, fake.Interrupt(1, 'think', fake.crash), profile=True
    )
  _train(config, tmp_path, profile=True)
  assert _annotations(_traces(tmp_path)[-1])[0] == 'iteration 2'


# --- runs found, and compared


def _write_run(
  root: pathlib.Path, *, config=None, steps=(10, 20, 30), value=1.0, **overrides
) -> pathlib.Path:
  """A run's folder without the run."""
  folder = folder_lib.RunFolder(root)
  folder.create(config or tiny.point_config(**overrides))
  rows = [
    {
      'iteration': index,
      'env_steps': step,
      'time/eval_s': 1.0,
      'eval/return_mean': value * step,
      'real/return': value * step - 1,
      'imagined/return_pre': value * step + 1,
      'model/val_loss': 1 / step**2,
      'meta/plasticity': 0.0,
    }
    for index, step in enumerate(steps)
  ]
  folder.metrics.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return root


def _seeded(root: pathlib.Path, seed: int, **kwargs) -> pathlib.Path:
  config = _write_run(root, **kwargs) / 'config.json'
  fields = json.loads(config.read_text())
  config.write_text(json.dumps({**fields, 'seed': seed}))
  return root


def _groups(*paths: pathlib.Path) -> dict[str, list[str]]:
  found = history.group(history.find(paths))
  return {g.label: [run.path.name for run in g.runs] for g in found}


def test_runs_are_grouped_by_all_but_the_seed(tmp_path: pathlib.Path) -> None:
  """`run.` does not count; labels are the fields that differ."""
  _seeded(tmp_path / 'a', 0)
  _seeded(tmp_path / 'b', 1, run__num_iterations=7)
  _seeded(tmp_path / 'c', 0, meta__inner_lr=0.5)
  expected = {
    'meta.inner_lr=0.001': ['a', 'b'],
    'meta.inner_lr=0.5': ['c'],
  }
  assert _groups(tmp_path) == expected
  # The same by three kinds of paths, named twice.
  paths = tmp_path / 'a', tmp_path / 'b' / 'metrics.jsonl', tmp_path
  assert _groups(*paths) == expected
  assert _groups(tmp_path / 'a', tmp_path / 'b') == {'point': ['a', 'b']}
  # A run begun before the field existed had its default.
  fields = json.loads((tmp_path / 'b' / 'config.json').read_text())
  del fields['model_rollouts']['restart'], fields['run']['wandb_project']
  (tmp_path / 'b' / 'config.json').write_text(json.dumps(fields))
  assert _groups(tmp_path) == expected


def test_algorithms_are_told_apart_and_share_a_picture(
  tmp_path: pathlib.Path,
) -> None:
  """By name, whatever fields only one has; a panel is asked for once."""
  names = algorithms.names()
  for name in names:
    _write_run(tmp_path / name, config=algorithms.config(name)())
  found = history.find([tmp_path])
  assert [run.algorithm for run in found] == sorted(names)
  groups = history.group(found)
  assert len(groups) == len(names)
  for group in groups:
    assert group.runs[0].path.name in group.label
  panels = [panel.title for panel in plot_runs._panels(groups)]
  assert panels[:2] == ['evaluation return', 'returns while learning']
  declared = [m for n in names for m in algorithms.metrics(n).values()]
  assert set(panels[2:]) == {m.panel for m in declared} - {''}
  assert len(set(panels)) == len(panels)
  # What nobody knows is no reason to draw nothing.
  config = tmp_path / names[0] / 'config.json'
  fields = json.loads(config.read_text())
  config.write_text(json.dumps({**fields, 'algorithm': 'gone'}))
  (run,) = history.find([config.parent])
  assert run.algorithm is None
  only = history.group([run])
  assert [p.title for p in plot_runs._panels(only)] == ['evaluation return']
  plot_runs.compare(only, tmp_path / 'out.png')


def test_range_of_a_picture_follows_what_no_model_made_up() -> None:
  """By what the metrics declare."""
  rows = [{'gathered/return': 1.0, 'learned/return': 1e9, 'thought/loss': 7.0}]
  curves = {k: m for k, m in fake.METRICS.items() if m.curve}
  for imagined, values in ((False, [1.0]), (True, [1e9])):
    found = plot.columns(rows, curves, imagined=imagined)
    np.testing.assert_array_equal(found, values)


def test_runs_are_reduced_as_their_metrics_say() -> None:
  """The host's own, and what is declared so, by their mean."""
  declared = {'a': base.Metric(''), 'b': base.Metric('', over_runs='sum')}
  rows = [{'a': 1.0, 'b': 2.0, 'env_steps': 10}] * 3
  rows.append({'a': 5.0, 'b': 2.0, 'env_steps': 10})
  assert metrics_lib.over_runs(rows, declared) == {
    'a': 2.0,
    'b': 8.0,
    'env_steps': 10.0,
  }


def test_labels_are_folders_where_fields_would_be_many(
  tmp_path: pathlib.Path,
) -> None:
  """Or where there is no configuration."""
  many = dict(
    meta__inner_lr=0.5,
    trust_region__max_kl=0.5,
    advantage__discount=0.5,
    advantage__gae_lambda=0.5,
  )
  _seeded(tmp_path / 'x' / 'seed_0', 0)
  _seeded(tmp_path / 'x' / 'seed_1', 1)
  _seeded(tmp_path / 'y', 0, **many)
  expected = {'x': ['seed_0', 'seed_1'], 'y': ['y']}
  assert _groups(tmp_path / 'x', tmp_path / 'y') == expected
  for name in ('p', 'q'):
    (_seeded(tmp_path / 'z' / name, 0) / 'config.json').unlink()
  assert _groups(tmp_path / 'z') == {'p': ['p'], 'q': ['q']}


def test_published_results_are_grouped() -> None:
  """The seeds of the quick preset are one curve."""
  groups = _groups(_RESULTS / 'half_cheetah_quick_cpu')
  assert groups == {'half_cheetah': [f'seed_{i}' for i in range(5)]}


@pytest.mark.parametrize(
  ('content', 'said'),
  [
    (None, 'no such file or folder'),
    (b'', 'no iteration is done yet'),
    (b'\xff\xfe\x00', 'must be the metrics.jsonl of a run'),
    (b'{"a"', 'must be the metrics.jsonl of a run'),
    (b'[1]\n', 'must be the metrics.jsonl of a run'),
    (b'{"a": 1}\n', 'must be the metrics.jsonl of a run'),
    (b'{"iteration": 0, "env_steps": "x"}\n', 'must be the metrics.jsonl'),
  ],
)
def test_what_is_no_run_is_one_line(
  content: bytes | None, said: str, tmp_path: pathlib.Path
) -> None:
  """Alone, and in a folder of good runs, except that it may not have begun."""
  file = tmp_path / 'runs' / 'bad' / 'metrics.jsonl'
  if content is not None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
  with pytest.raises(history.HistoryError, match=said) as error:
    history.find([file])
  assert str(file) in str(error.value)
  assert '\n' not in str(error.value)
  good = _write_run(tmp_path / 'runs' / 'good')
  if content:
    with pytest.raises(history.HistoryError, match=said):
      history.find([tmp_path / 'runs'])
  else:
    assert [run.path for run in history.find([tmp_path / 'runs'])] == [good]


def test_folder_without_runs_and_broken_config_are_one_line(
  tmp_path: pathlib.Path,
) -> None:
  """By path."""
  with pytest.raises(history.HistoryError, match='must contain metrics'):
    history.find([tmp_path])
  run = _write_run(tmp_path / 'run')
  (run / 'config.json').write_text('[')
  with pytest.raises(history.HistoryError, match=r'config\.json: cannot'):
    history.find([run])


def test_curves_of_other_steps_are_interpolated() -> None:
  """On the union of steps; NaN beyond a run's ends and beside what is NaN."""
  nan = math.nan
  long = [{'env_steps': x, 'm': 2.0 * x} for x in (10, 20, 40)]
  short = [{'env_steps': x, 'm': 4.0 * x} for x in (15, 30)]
  curve = plot_runs.curve([long, short], 'm')
  np.testing.assert_array_equal(curve.steps, [10, 15, 20, 30, 40])
  np.testing.assert_allclose(
    curve.values, [[20, 30, 40, 60, 80], [nan, 60, 80, 120, nan]]
  )
  np.testing.assert_allclose(curve.mean, [nan, 45, 60, 90, nan])
  long[1]['m'] = nan
  curve = plot_runs.curve([long, short], 'm')
  np.testing.assert_allclose(curve.values[0], [20, nan, nan, nan, 80])


def test_iterations_without_evaluation_are_no_gap() -> None:
  """But an evaluation that gave nothing finite is one."""
  name = 'eval/return_mean'
  rows = [
    {'env_steps': x, 'time/eval_s': s, name: y}
    for x, s, y in [(1, 1.0, 5.0), (2, 0.0, math.nan), (3, 1.0, 7.0)]
  ]
  curve = plot_runs.curve([rows, rows], name)
  np.testing.assert_array_equal(curve.steps, [1, 3])
  np.testing.assert_array_equal(curve.mean, [5, 7])
  rows[1]['time/eval_s'] = 1.0
  np.testing.assert_array_equal(
    plot_runs.curve([rows], name).mean, [5, math.nan, 7]
  )


@pytest.mark.parametrize('ending', ['.png', '.pdf', '.svg'])
def test_comparison_is_drawn(ending: str, tmp_path: pathlib.Path) -> None:
  """Groups of other lengths, gaps, no values at all, more than the colours."""
  for index in range(7):
    root = tmp_path / f'run_{index}'
    _seeded(root, 0, meta__inner_lr=0.1 * index)
    _seeded(tmp_path / f'again_{index}', 1, meta__inner_lr=0.1 * index)
  _seeded(tmp_path / 'long', 2, steps=(5, 25, 50), meta__inner_lr=0.1)
  groups = history.group(history.find([tmp_path]))
  assert [len(group.runs) for group in groups].count(3) == 1
  for row in groups[2].runs[0].rows:
    row.update({k: math.nan for k in row if '/' in k and 'time' not in k})
  out = tmp_path / f'out{ending}'
  plot_runs.compare(groups, out, published={'a': 30.0, 'b': 60.0}, title='t')
  assert out.stat().st_size > 10_000
  assert not list(tmp_path.glob('.out*'))
  plot_runs.compare(groups[2:3], out)


def test_paper_has_a_panel_per_world_and_a_colour_per_method(
  tmp_path: pathlib.Path,
) -> None:
  """By algorithm where that tells the groups apart, by fields elsewhere."""
  _seeded(tmp_path / 'a', 0)
  _seeded(tmp_path / 'b', 1)
  groups = history.group(history.find([tmp_path]))
  figure = plot_runs.paper(groups, published={'a': 30.0}, log=True)
  (axes,) = figure.axes
  assert axes.get_title() == 'point' and axes.get_xscale() == 'log'
  look = appearance.of('mbmpo')
  assert look.color in [line.get_color() for line in axes.lines]
  (legend,) = figure.legends
  assert [t.get_text() for t in legend.get_texts()] == [look.label, 'a']
  _seeded(tmp_path / 'c', 0, meta__inner_lr=0.5)
  groups = history.group(history.find([tmp_path]))
  (legend,) = plot_runs.paper(groups).legends
  labels = [t.get_text() for t in legend.get_texts()]
  assert labels == ['meta.inner_lr=0.001', 'meta.inner_lr=0.5']


def test_picture_that_cannot_be_written_is_one_line(
  tmp_path: pathlib.Path,
) -> None:
  """Another ending, or no such folder."""
  groups = history.group(history.find([_write_run(tmp_path / 'run')]))
  for name, said in (('a.bmp', 'must end in .png'), ('no/a.png', 'No such')):
    with pytest.raises(errors.UserError, match=said):
      plot_runs.compare(groups, tmp_path / name)


def _run_binary(name: str, *arguments: str, cwd: pathlib.Path):
  return subprocess.run(
    [sys.executable, str(_ROOT / 'experiments' / name), *arguments],
    cwd=cwd,
    env={**os.environ, 'PYTHONPATH': str(_ROOT), 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.slow
def test_plot_binary(tmp_path: pathlib.Path) -> None:
  """Draws; every mistake is one line and exit code 2."""
  _write_run(tmp_path / 'run')
  done = _run_binary(
    'plot.py', 'run', '--out=a.svg', '--line=paper at 100k=700', cwd=tmp_path
  )
  assert done.returncode == 0, done.stderr
  assert 'paper at 100k' in (tmp_path / 'a.svg').read_text()
  assert done.stdout.splitlines() == ['point: run', 'a.svg']
  for arguments, said in (
    ([], 'no run is given'),
    (['run', '--line=700'], "--line=700: must be '<label>=<value>'"),
    (['run', '--line=a=nan'], '--line=a=nan'),
    (['nowhere'], 'nowhere: no such file or folder'),
    (['run', '--oui=x'], "'oui'"),
  ):
    done = _run_binary('plot.py', *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count('\n') == 1
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.svg', 'run']


@pytest.mark.slow
def test_train_binary_profiles(tmp_path: pathlib.Path) -> None:
  """The flag reaches the loop; the help names it."""
  done = _run_binary(
    'train.py',
    f'--config={_ROOT}/experiments/configs/mbmpo/point.py',
    '--config.run.num_iterations=2',
    '--config.meta.num_meta_steps=1',
    '--config.model.max_epochs=1',
    '--workdir=run',
    '--profile',
    cwd=tmp_path,
  )
  assert done.returncode == 0, done.stderr
  assert len(_traces(tmp_path / 'run')) == 1
  assert 'iteration 2 was traced' in done.stdout
