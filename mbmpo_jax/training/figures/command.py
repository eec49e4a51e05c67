"""The command line of a figure: its size, its folder, train or only draw.

  python experiments/figures/fig1.py --quick

Exactly one of --tiny, --quick and --full is required. The same command resumes
an interrupted figure and repeats no finished run.
"""

import functools
import pathlib
import shlex
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import app
from absl import flags
from matplotlib import figure as figure_lib

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax import validation
from mbmpo_jax.training import loop
from mbmpo_jax.training.figures import estimate
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import tiny
from mbmpo_jax.training.reporting import progress as progress_lib

SIZES = ('tiny', 'quick', 'full')
_FLAGS = (*SIZES, 'workdir', 'only_plot', 'methods', 'envs', 'num_seeds')

# The flags belong to the binary that parses them, so its --help shows them.
flags.disclaim_key_flags()


class MissingError(errors.UserError):
  """A figure should only be drawn, but some of its runs are missing."""


class Arguments(NamedTuple):
  """The parsed command line.

  Attributes:
    size: one of `SIZES`.
    root: the folder of all runs.
    methods: the requested methods, in the figure's order.
    envs: the requested environments, in the figure's order.
    num_seeds: runs per curve; `None` for the figure's own number.
    only_plot: whether to skip the training.
    again: the command that trains missing runs.
  """

  size: str
  root: pathlib.Path
  methods: tuple[str, ...]
  envs: tuple[str, ...]
  num_seeds: int | None
  only_plot: bool
  again: str


class Figure(NamedTuple):
  """The definition of a figure.

  Attributes:
    name: of the files, such as `fig1`.
    about: the content, for the first line of output.
    methods: allowed values of `--methods`, in order.
    groups: (size, methods) -> the groups of runs.
    claims: study -> the paper's claims with their verdicts.
    draw: study -> the picture; `None` if there is nothing to draw.
    numbers: study -> the numbers in the picture, for JSON.
    costs: configuration -> the seconds of its run.
    home: the default folder is `runs/figures/<home>`; `name` by default.
    table: study -> header and rows, for figures that are also tables.
  """

  name: str
  about: str
  methods: tuple[str, ...]
  groups: Callable[[str, tuple[str, ...]], list[study.Group]]
  claims: Callable[[study.Study], list[report.Claim]]
  draw: Callable[[study.Study], figure_lib.Figure | None]
  numbers: Callable[[study.Study], Any]
  costs: estimate.Costs
  home: str = ''
  table: Callable[[study.Study], list[tuple[str, ...]]] | None = None


def run(figure: Figure) -> None:
  """Runs a figure's binary: parses its flags, trains its runs, draws them."""
  define(figure, flags.FLAGS)
  for name in _FLAGS:
    flags.declare_key_flag(name)
  app.run(
    functools.partial(_main, figure),
    flags_parser=functools.partial(parse, figure),
  )


def define(figure: Figure, flag_values: flags.FlagValues) -> flags.FlagValues:
  """Defines the flags and returns their `FlagValues`."""
  flags.DEFINE_boolean(
    'tiny',
    False,
    'Minimal sizes, to test in minutes that the program runs; the results are'
    ' meaningless.',
    flag_values=flag_values,
  )
  flags.DEFINE_boolean(
    'quick',
    False,
    'Reduced sizes, which take hours on a CPU.',
    flag_values=flag_values,
  )
  flags.DEFINE_boolean(
    'full',
    False,
    "The paper's sizes, environments and seeds.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'workdir',
    f'runs/figures/{figure.home or figure.name}',
    'Folder of all runs and results, with a subfolder for each size; runs found'
    ' there are continued.',
    flag_values=flag_values,
  )
  flags.DEFINE_boolean(
    'only_plot',
    False,
    'Whether to draw only the existing runs, without training.',
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    'methods',
    list(figure.methods),
    'Methods to compare, separated by commas.',
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    'envs',
    None,
    'Environments to train in and to draw, separated by commas; all of the'
    ' figure by default.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'num_seeds',
    None,
    'Runs per curve; the number that belongs to the size by default.',
    flag_values=flag_values,
    lower_bound=1,
    upper_bound=1000,
  )
  return flag_values


def parse(
  figure: Figure,
  argv: Sequence[str],
  flag_values: flags.FlagValues = flags.FLAGS,
) -> Arguments:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    training_flags.parse_defined(argv, _FLAGS, flag_values=flag_values)
    value: dict[str, Any] = {n: flag_values[n].value for n in _FLAGS}
    chosen = [size for size in SIZES if value[size]]
    if len(chosen) != 1:
      given = ' '.join(f'--{size}' for size in chosen) or 'no size'
      raise config_lib.ConfigError(
        f'{given}: exactly one of'
        f' {", ".join(f"--{size}" for size in SIZES)} must be given'
      )
    methods = _check_names('methods', value['methods'], figure.methods)
    if not value['workdir']:
      raise config_lib.ConfigError("--workdir='': must name a folder")
    size = 'tiny' if tiny.wanted() else chosen[0]
    groups = figure.groups(size, methods)
    known = list(dict.fromkeys(map(_env, groups)))
    asked = known if value['envs'] is None else value['envs']
    envs = _check_names('envs', asked, known)
    _part(groups, envs, value['num_seeds'])
  others = [x for x in argv[1:] if 'only_plot' not in x]
  return Arguments(
    size,
    pathlib.Path(value['workdir']) / size,
    methods,
    envs,
    value['num_seeds'],
    value['only_plot'],
    shlex.join(['python', argv[0], *others]),
  )


def _check_names(
  flag: str, asked: Sequence[str], known: Sequence[str]
) -> tuple[str, ...]:
  """Returns the values of a flag in the order of the known ones.

  Raises:
    ConfigError: naming the first unknown value and the nearest known one.
  """
  for name in asked:
    if name not in known:
      raise config_lib.ConfigError(
        f'--{flag}={",".join(asked)}: {name!r} must be one of'
        f' {", ".join(known)}{validation.nearest(name, known)}'
      )
  if not asked:
    raise config_lib.ConfigError(
      f'--{flag}=: must name at least one of {", ".join(known)}'
    )
  return tuple(name for name in known if name in asked)


def _env(group: study.Group) -> str:
  return group.runs[0].config.env.name


def _part(
  groups: Sequence[study.Group], envs: Sequence[str], num_seeds: int | None
) -> list[study.Group]:
  """Returns the groups in the requested environments, with so many seeds.

  Raises:
    ConfigError: as `study.with_seeds` does.
  """
  found = [group for group in groups if _env(group) in envs]
  if num_seeds is None:
    return found
  return [study.with_seeds(group, num_seeds) for group in found]


def _groups(figure: Figure, arguments: Arguments) -> list[study.Group]:
  groups = figure.groups(arguments.size, arguments.methods)
  return _part(groups, arguments.envs, arguments.num_seeds)


def _main(figure: Figure, arguments: Arguments) -> None:
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax import backend
  from mbmpo_jax.training import signals
  from mbmpo_jax.training.launch import cache

  cache.enable()
  with training_flags.one_line_errors():
    if arguments.only_plot:
      draw(figure, arguments)
      return
    backend.split_cpu(backend.num_cores())
    with signals.exiting() as stop:
      make(figure, arguments, stop=stop)
      if not stop.obeyed:
        draw(figure, arguments)


def make(
  figure: Figure,
  arguments: Arguments,
  *,
  stop: Any,
  make_progress: Callable[[], progress_lib.Progress] = progress_lib.make,
  make_algorithm: loop.MakeAlgorithm | None = None,
) -> None:
  """Prints the plan and its cost, and trains the unfinished runs.

  Args:
    figure: the figure.
    arguments: the parsed command line.
    stop: a `signals.StopRequest`.
    make_progress: as for `make.make`.
    make_algorithm: as for `loop.train`.

  Raises:
    UserError: as `make.make` does.
  """
  from mbmpo_jax.training.figures import make as make_lib

  groups = _groups(figure, arguments)
  runs = study.runs(groups)
  root = arguments.root
  print(f'{figure.name} --{arguments.size}, in {root}: {figure.about}')
  for line in estimate.plan(
    groups, root, figure.costs, make_algorithm=make_algorithm
  ):
    print(line)
  make_lib.make(
    runs,
    root,
    stop=stop,
    left=lambda: estimate.seconds_left(runs, root, figure.costs),
    make_progress=make_progress,
    make_algorithm=make_algorithm,
  )


def draw(figure: Figure, arguments: Arguments) -> list[report.Claim]:
  """Draws the existing runs, writes the numbers, and prints the verdicts.

  Raises:
    MissingError: naming the unfinished runs, and the command that trains them;
      the existing runs have been drawn.
  """
  found = study.read(arguments.size, arguments.root, _groups(figure, arguments))
  missing, claims = found.missing, []
  if any(rows for entry in found.groups for rows in entry.rows):
    claims = figure.claims(found)
    table = [] if figure.table is None else figure.table(found)
    files = report.write(
      arguments.root,
      figure.name,
      figure.draw(found),
      claims,
      {
        'size': arguments.size,
        'missing': missing,
        'shows': figure.numbers(found),
      },
      table,
    )
    print(report.markdown(table) if table else '', end='')
    for claim in claims:
      print(claim.sentence)
    for path in files:
      print(f'  {path}')
  if missing:
    error = MissingError(
      f'{figure.name}: {len(missing)} runs are not done;'
      f' `{arguments.again}` makes them:'
    )
    for line in missing:
      error.add_note(line)
    raise error
  return claims
