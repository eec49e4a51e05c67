"""The public benchmark: results of this package beside published ones.

The published results are in `benchmark_published.json`, with their source.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import errors
from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.launch import benchmark
from mbmpo_jax.training.launch import tiny
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import plot_paper

# Published numbers have one decimal digit.
_ROUNDING = 0.05

_FILE = pathlib.Path(__file__).with_name('benchmark_published.json')


class Published(NamedTuple):
  """A table of published results.

  Attributes:
    source: its reference.
    transitions: real transitions per run.
    methods: its columns.
    algorithms: for each column this package's algorithm, or `None`.
    returns: by environment, for each column mean and standard deviation over
      seeds.
  """

  source: str
  transitions: int
  methods: tuple[str, ...]
  algorithms: tuple[str | None, ...]
  returns: dict[str, list[tuple[float, float]]]

  def of(self, algorithm: str, world: str) -> tuple[float, float] | None:
    """Returns the published result of an algorithm, or `None`."""
    if algorithm not in self.algorithms:
      return None
    return self.returns[world][self.algorithms.index(algorithm)]


def published() -> Published:
  """Reads the table."""
  read: dict[str, Any] = json.loads(_FILE.read_text(encoding='utf-8'))
  returns = {
    world: [(mean, std) for mean, std in row]
    for world, row in read['returns'].items()
  }
  return Published(
    read['source'],
    read['transitions'],
    tuple(read['methods']),
    tuple(read['methods'].values()),
    returns,
  )


def groups(
  names: Sequence[str],
  worlds: Sequence[str],
  *,
  num_seeds: int,
  transitions: int = benchmark.TRANSITIONS,
  until_solved: bool = False,
  is_tiny: bool = False,
) -> list[study.Group]:
  """Returns the runs of algorithms in environments.

  The folders are `<world>/<algorithm>/seed=<n>`.

  Args:
    names: of the algorithms.
    worlds: of `benchmark.WORLDS`.
    num_seeds: runs per algorithm and environment.
    transitions: real transitions per run.
    until_solved: whether runs end early at the return of `benchmark.SOLVED`.
    is_tiny: whether all sizes are reduced to a minimum, with which nothing is
      learned.

  Raises:
    ConfigError: if there is no such environment.
    UnknownAlgorithmError: if there is no such algorithm.
  """
  made = []
  for world in worlds:
    for algorithm in names:
      config = benchmark.config(algorithm, world, transitions=transitions)
      if is_tiny:
        config = tiny.shrink(config)
      config = config_lib.replaced(
        config,
        {
          'run.render': False,
          'run.keep_checkpoints': 1,
          'run.solved_at': benchmark.SOLVED.get(world)
          if until_solved
          else None,
        },
      )
      label = 'MBPO' if algorithm == 'm3po' else None
      made.append(study.seeds(world, config, num_seeds, label=label))
  return made


def check(groups: Sequence[study.Group]) -> None:
  """Builds each algorithm in its environment before any of them is trained.

  Raises:
    UserError: if an algorithm does not support an environment, or a value is
      not allowed.
  """
  for group in groups:
    config = group.runs[0].config
    env = envs.make(config.env.name, config.env.variant)
    try:
      algorithms.make(config.algorithm, env, config, check=False)
    except errors.UserError as error:
      raise type(error)(
        f'{config.algorithm} in {config.env.name}: {error}'
      ) from error


def table(
  found: study.Study, source: Published | None = None
) -> list[tuple[str, ...]]:
  """Returns a row per environment: results of finished runs, then published.

  A result is the mean over seeds of the final return (`curves.final`) with its
  standard deviation, followed by the numbers of seeds and of transitions. Runs
  that ended early, because they are solved, have fewer transitions than others.
  """
  source = source or published()
  ours = list(dict.fromkeys(x.group.label for x in found.groups))
  head = ['world', *(f'ours: {label}' for label in ours), *source.methods]
  rows = [tuple(head)]
  for world, entries in found.panels.items():
    by_label = {entry.group.label: entry for entry in entries}
    rows.append(
      (
        f'`{world}`',
        *(_ours(by_label.get(label)) for label in ours),
        *(f'{mean:g} ± {std:g}' for mean, std in source.returns[world]),
      )
    )
  return rows


def claims(
  found: study.Study, source: Published | None = None
) -> list[report.Claim]:
  """Returns claims that each return reaches the published one.

  The return must reach the published mean minus the published deviation. Half
  of the last published digit is tolerated, because a published 0.0 ± 0.0 stands
  for costs that are not exactly 0. The interval over two seeds is wide, so such
  claims are mostly undecided and need more seeds.
  """
  source = source or published()
  made = []
  for entry in found.groups:
    world, key = entry.group.panel, entry.group.key
    row = source.of(key, world)
    if row is None:
      continue
    mean, std = row
    text = (
      f'{entry.group.label} reaches the published {mean:g} ± {std:g} on {world}'
    )
    if entry.lacks:
      lacks = entry.lacks if entry.finished else 'no run of it is done'
      made.append(report.undecided(text, lacks))
      continue
    ends, least = intervals.mean(entry.finals), mean - std - _ROUNDING
    reason = (
      f'after {_transitions(entry.curves)} transitions it has {ends.text()},'
      f' where {least:g} would do'
    )
    numbers: dict[str, Any] = {
      'world': world,
      'method': key,
      'ours': entry.finals,
      'published': mean,
      'deviation': std,
    }
    verdict = report.verdict(ends, least)
    made.append(report.Claim(text, verdict, reason, numbers))
  return made


def show(found: study.Study, root: pathlib.Path) -> list[report.Claim]:
  """Prints the table, and writes it and its numbers to `benchmark.*`.

  Args:
    found: the runs.
    root: the folder of all runs.

  Returns:
    The claims, one per published result.

  Raises:
    WriteError: if a file cannot be written.
  """
  source = published()
  rows, made = table(found, source), claims(found, source)
  picture = None
  if any(run for entry in found.groups for run in entry.rows):
    panels = [
      panel._replace(levels=_levels(found.panels, source, panel.title))
      for panel in shown.panels(found)
    ]
    picture = plot_paper.curves(panels)
  files = report.write(
    root,
    'benchmark',
    picture,
    made,
    {
      'source': source.source,
      'missing': found.missing,
      'shows': shown.numbers(found),
    },
    rows,
  )
  print(report.markdown(rows), end='')
  print(f'Published: {source.source}.')
  for claim in made:
    print(claim.sentence)
  for line in found.missing:
    print(f'  not done: {line}')
  for path in files:
    print(f'  {path}')
  return made


def _levels(
  panels: Mapping[str, Sequence[study.Found]], source: Published, title: str
) -> list[plot_paper.Level]:
  """Returns the published results of the algorithms in a panel."""
  (world,) = (name for name in panels if name.replace('_', ' ') == title)
  levels = []
  for entry in panels[world]:
    row = source.of(entry.group.key, world)
    if row is not None:
      label = f'{entry.group.label}, published'
      levels.append(plot_paper.Level(label, row[0], entry.group.color))
  return levels


def _ours(entry: study.Found | None) -> str:
  """Formats `171 ± 3 (2 seeds, 200k)`; the deviation is over seeds."""
  if entry is None:
    return '-'
  done = [curve for curve in entry.curves if curve.steps.size]
  if not done:
    return '-'
  ends = np.asarray([curves.final(curve) for curve in done])
  spread = f' ± {_number(ends.std(ddof=1))}' if ends.size > 1 else ''
  seeds = f'{ends.size} seed{"s" if ends.size > 1 else ""}'
  return f'{_number(ends.mean())}{spread} ({seeds}, {_transitions(done)})'


def _transitions(done: Sequence[curves.Curve]) -> str:
  """Formats the transitions of runs, `200k`, or `30k to 50k`."""
  least, most = (f(int(x.steps[-1]) for x in done) for f in (min, max))
  if least == most:
    return pace.count(least)
  return f'{pace.count(least)} to {pace.count(most)}'


def _number(value: float) -> str:
  """Formats a number with one decimal, or with two significant digits."""
  if not math.isfinite(value):
    return '?'
  return f'{value:.1f}' if abs(value) >= 1 else f'{value:.2g}'
