"""The runs of a figure and their results so far.

A figure has groups of runs that differ only in the seed; each is a curve.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training import solved
from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.storage import checkpoint


class Sweep(NamedTuple):
  """Runs that are trained in one program, in one folder."""

  folder: str
  grid: grid_lib.Grid


class Run(NamedTuple):
  """A run of a figure.

  Attributes:
    name: its folder below the figure's.
    config: its configuration.
    sweep: the sweep that it belongs to; `None` if it is trained separately.
  """

  name: str
  config: config_lib.Experiment
  sweep: Sweep | None = None


class Group(NamedTuple):
  """Runs that differ only in the seed: one curve.

  Attributes:
    panel: the title of its panel.
    key: its identifier, unique within the panel.
    label: its label in the legend.
    color: of its curve.
    runs: by seed.
  """

  panel: str
  key: str
  label: str
  color: str
  runs: tuple[Run, ...]


class Found(NamedTuple):
  """A group and the results of its runs.

  Attributes:
    group: the runs.
    rows: the rows of each run's `metrics.jsonl`; empty if it has not begun.
  """

  group: Group
  rows: tuple[list[dict[str, float]], ...]

  @property
  def finished(self) -> list[list[dict[str, float]]]:
    """The rows of finished runs."""
    return [
      rows
      for run, rows in zip(self.group.runs, self.rows, strict=True)
      if is_done(run, rows)
    ]

  @property
  def curves(self) -> list[curves.Curve]:
    """The evaluations of finished runs."""
    return [curves.evaluations(rows) for rows in self.finished]

  @property
  def lacks(self) -> str:
    """Why the runs cannot decide a claim; '' if they can."""
    if not self.finished:
      return 'runs are missing'
    for run, rows in zip(self.group.runs, self.rows, strict=True):
      if is_done(run, rows) and not curves.evaluations(rows).returns.size:
        return f'{run.name} has no finite evaluation'
    return ''

  @property
  def finals(self) -> list[float]:
    """The final returns of finished runs."""
    return [curves.final(curve) for curve in self.curves]


class Study(NamedTuple):
  """All results of a figure.

  Attributes:
    size: `tiny`, `quick` or `full`.
    root: the folder of all runs.
    groups: in the order of drawing.
  """

  size: str
  root: pathlib.Path
  groups: tuple[Found, ...]

  @property
  def missing(self) -> list[str]:
    """Names and progress of unfinished runs."""
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
  """Returns a group of separate runs, `<panel>/<folder>/seed=<n>`.

  Args:
    panel: the group's panel.
    config: the configuration of the first run; the others have the seeds that
      follow.
    num_seeds: number of runs.
    key: by default the algorithm's name.
    label: by default the algorithm's.
    color: by default the algorithm's.
    folder: by default the key. Groups that differ only in the number of
      iterations may share it; a shorter run is then the beginning of the
      longest one.
  """
  key = key or config.algorithm
  look = appearance.of(config.algorithm)
  first = Run(f'{panel}/{folder or key}/seed={config.seed}', config)
  return with_seeds(
    Group(panel, key, label or look.label, color or look.color, (first,)),
    num_seeds,
  )


def with_seeds(group: Group, num_seeds: int) -> Group:
  """Returns a group with another number of runs; the first ones stay the same.

  Args:
    group: at least one run; the names end with `/seed=<n>`.
    num_seeds: number of runs, whose seeds follow the first run's.

  Raises:
    ConfigError: a sweep's number of runs cannot be changed.
  """
  first = group.runs[0]
  if first.sweep is not None:
    raise config_lib.ConfigError(
      f'--num_seeds={num_seeds}: the runs of {group.panel!r} are a sweep, which'
      f' has {len(group.runs)} seeds'
    )
  folder, start = first.name.rpartition('/')[0], first.config.seed
  return group._replace(
    runs=tuple(
      Run(
        f'{folder}/seed={seed}',
        config_lib.replaced(first.config, {'seed': seed}),
      )
      for seed in range(start, start + num_seeds)
    )
  )


def swept(
  panel: str,
  folder: str,
  grid: grid_lib.Grid,
  looks: Mapping[str, tuple[str, str]],
) -> list[Group]:
  """Returns the groups of a sweep, one per setting.

  Args:
    panel: the groups' panel.
    folder: the sweep's folder below the figure's.
    grid: its runs.
    looks: by the setting's label: label and colour in the picture.
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
  """Returns all runs without repetition, first those of the first seed.

  If groups share a run, it has the largest number of iterations.
  """
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
  """Reads the results of a figure's runs."""
  return Study(
    size,
    root,
    tuple(
      Found(group, tuple(rows_of(root, run) for run in group.runs))
      for group in groups
    ),
  )


def rows_of(root: pathlib.Path, run: Run) -> list[dict[str, float]]:
  """Reads the metrics of a run; empty if it has not begun.

  The row of the last iteration is left out until its checkpoint is written, so
  that the run does not count as done before.
  """
  folder = root / run.name
  path = folder / 'metrics.jsonl'
  rows = metrics.read_jsonl(path) if path.is_file() else []
  rows = [x for x in rows if x['iteration'] < run.config.run.num_iterations]
  saved = checkpoint.steps(folder / 'checkpoints')
  if saved and is_done(run, rows) and saved[-1] < num_done(rows):
    return rows[:-1]
  return rows


def is_done(run: Run, rows: Sequence[Mapping[str, float]]) -> bool:
  """Whether a run has all its iterations, or is solved."""
  section = run.config.run
  return num_done(rows) >= section.num_iterations or solved.is_solved(
    rows, section.solved_at
  )


def num_done(rows: Sequence[Mapping[str, float]]) -> int:
  """Returns the number of iterations done; rows of some may be lost."""
  return int(rows[-1]['iteration']) + 1 if rows else 0
