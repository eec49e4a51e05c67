"""The runs that a figure is made of, and what is there of them.

figure = groups of runs that differ in nothing but the seed: its curves
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.reporting import metrics


class Sweep(NamedTuple):
  """Runs that are made in one program, in one folder."""

  folder: str
  grid: grid_lib.Grid


class Run(NamedTuple):
  """A run of a figure.

  Attributes:
    name: its folder below the figure's.
    config: gives this run alone.
    sweep: what it is made with; `None` where it is made alone.
  """

  name: str
  config: config_lib.Experiment
  sweep: Sweep | None = None


class Group(NamedTuple):
  """Runs that differ in nothing but the seed: one curve.

  Attributes:
    panel: the title of the panel that it belongs into.
    key: what it is called where it is asked for, once per panel.
    label: what it is called in the legend.
    color: of its curve.
    runs: by seed.
  """

  panel: str
  key: str
  label: str
  color: str
  runs: tuple[Run, ...]


class Found(NamedTuple):
  """A group, and what its runs have left.

  Attributes:
    group: the runs.
    rows: of each run's `metrics.jsonl`; none where it has not begun.
  """

  group: Group
  rows: tuple[list[dict[str, float]], ...]

  @property
  def finished(self) -> list[list[dict[str, float]]]:
    """The rows of the runs that are done."""
    return [
      rows
      for run, rows in zip(self.group.runs, self.rows, strict=True)
      if is_done(run, rows)
    ]

  @property
  def curves(self) -> list[curves.Curve]:
    """The evaluations of the runs that are done."""
    return [curves.evaluations(rows) for rows in self.finished]

  @property
  def lacks(self) -> str:
    """Why its runs say nothing about a claim; nothing if they do."""
    if not self.finished:
      return 'runs are missing'
    for run, curve in zip(self.group.runs, self.curves, strict=False):
      if not curve.returns.size:
        return f'{run.name} has no finite evaluation'
    return ''

  @property
  def finals(self) -> list[float]:
    """What each run that is done ends with."""
    return [curves.final(curve) for curve in self.curves]


class Study(NamedTuple):
  """All of a figure that is there.

  Attributes:
    size: `tiny`, `quick` or `full`.
    root: the folder of all runs.
    groups: in the order in which they are drawn.
  """

  size: str
  root: pathlib.Path
  groups: tuple[Found, ...]

  @property
  def missing(self) -> list[str]:
    """The runs that are not done, and how far they are."""
    found: dict[str, str] = {}
    for entry in self.groups:
      for run, rows in zip(entry.group.runs, entry.rows, strict=True):
        if not is_done(run, rows):
          total = run.config.run.num_iterations
          found[run.name] = (
            f'{run.name}: {num_done(rows)} of {total} iterations'
          )
    return list(found.values())

  @property
  def panels(self) -> dict[str, list[Found]]:
    """The groups by panel."""
    found: dict[str, list[Found]] = {}
    for entry in self.groups:
      found.setdefault(entry.group.panel, []).append(entry)
    return found


def seeds(
  panel: str,
  config: config_lib.Experiment,
  num_seeds: int,
  *,
  key: str | None = None,
  label: str | None = None,
  color: str | None = None,
  folder: str | None = None,
) -> Group:
  """A group of runs that are made one by one, `<panel>/<folder>/seed=<n>`.

  Args:
    panel: it belongs into.
    config: of the first; the others have the seeds after it.
    num_seeds: how many.
    key: by default the algorithm's name.
    label: by default the algorithm's.
    color: by default the algorithm's.
    folder: by default the key. Groups that differ in nothing but how long they
      are trained may share it: the shorter ones are the beginning of the
      longest.
  """
  key = key or config.algorithm
  look = appearance.of(config.algorithm)
  return Group(
    panel,
    key,
    label or look.label,
    color or look.color,
    tuple(
      Run(
        f'{panel}/{folder or key}/seed={seed}',
        config_lib.replaced(config, {'seed': seed}),
      )
      for seed in range(config.seed, config.seed + num_seeds)
    ),
  )


def swept(
  panel: str,
  folder: str,
  grid: grid_lib.Grid,
  looks: Mapping[str, tuple[str, str]],
) -> list[Group]:
  """The groups of a sweep, one per setting.

  Args:
    panel: they belong into.
    folder: of the sweep, below the figure's.
    grid: its runs.
    looks: by the setting's label, label and colour in the picture.
  """
  sweep = Sweep(folder, grid)
  groups = []
  for setting in grid.settings:
    runs = tuple(
      Run(f'{folder}/{grid_lib.run_name(setting, config)}', config, sweep)
      for config in setting.configs
    )
    label, color = looks[setting.label]
    groups.append(Group(panel, label, label, color, runs))
  return groups


def runs(groups: Sequence[Group]) -> list[Run]:
  """All runs, each once and to its longest, first those of the first seed."""
  found: dict[str, Run] = {}
  most = max((len(group.runs) for group in groups), default=0)
  for index in range(most):
    for group in groups:
      for run in group.runs[index : index + 1]:
        known = found.setdefault(run.name, run)
        if run.config.run.num_iterations > known.config.run.num_iterations:
          found[run.name] = run
  return list(found.values())


def read(size: str, root: pathlib.Path, groups: Sequence[Group]) -> Study:
  """What there is of a figure's runs."""
  return Study(
    size,
    root,
    tuple(
      Found(group, tuple(rows_of(root, run) for run in group.runs))
      for group in groups
    ),
  )


def rows_of(root: pathlib.Path, run: Run) -> list[dict[str, float]]:
  """The metrics of a run's iterations; none where it has not begun."""
  path = root / run.name / 'metrics.jsonl'
  rows = metrics.read_jsonl(path) if path.is_file() else []
  return [x for x in rows if x['iteration'] < run.config.run.num_iterations]


def is_done(run: Run, rows: Sequence[Mapping[str, float]]) -> bool:
  """Whether a run has all its iterations."""
  return num_done(rows) >= run.config.run.num_iterations


def num_done(rows: Sequence[Mapping[str, float]]) -> int:
  """How many iterations a run has; rows of some may have been lost."""
  return int(rows[-1]['iteration']) + 1 if rows else 0
