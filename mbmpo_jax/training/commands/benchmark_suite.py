r"""Trains on the public benchmark and prints the results beside published ones.

  mbmpo benchmark_suite --algorithm=mbmpo,sac --envs=pendulum,cartpole

Any algorithms on any of its environments (docs/environments.md), for 200,000
real transitions as in the benchmark, with the sizes of the presets
`<algorithm>/benchmark`. The same command resumes an interrupted suite and
repeats no finished run; with --only_plot it shows the existing results without
training.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from absl import app
from absl import flags

from mbmpo_jax import config as config_lib
from mbmpo_jax import quiet
from mbmpo_jax.training.launch import benchmark
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import tiny

_ALGORITHM = flags.DEFINE_list(
  'algorithm', ['mbmpo'], 'Algorithms, separated by commas.'
)
_ENVS = flags.DEFINE_list(
  'envs',
  list(benchmark.SMALL),
  "Environments of the benchmark, separated by commas; 'all' selects all of"
  ' them.',
)
_NUM_SEEDS = flags.DEFINE_integer(
  'num_seeds',
  2,
  'Number of runs for each algorithm and environment.',
  lower_bound=1,
  upper_bound=1000,
)
_TRANSITIONS = flags.DEFINE_integer(
  'transitions', benchmark.TRANSITIONS,
  'Number of real transitions of each run.',
  lower_bound=1, upper_bound=2**31 - 1,
)  # fmt: skip
_UNTIL_SOLVED = flags.DEFINE_boolean(
  'until_solved',
  False,
  'Whether a run ends once three evaluations in a row reach the return at which'
  ' its environment counts as solved (docs/benchmark.md).',
)
_TINY = flags.DEFINE_boolean(
  'tiny',
  False,
  'Minimal sizes, to test that the program runs; the results are meaningless.',
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  'runs/benchmark',
  'Folder of all runs and results; runs found there are continued.',
)
_ONLY_PLOT = flags.DEFINE_boolean(
  'only_plot',
  False,
  'Whether to show only the existing runs, without training.',
)
_NAMES = (
  *('algorithm', 'envs', 'num_seeds', 'transitions'),
  *('until_solved', 'tiny', 'workdir', 'only_plot'),
)


class Arguments(NamedTuple):
  """The parsed command line.

  Attributes:
    algorithms: names of the algorithms.
    worlds: environments of the benchmark.
    num_seeds: runs per algorithm and environment.
    transitions: real transitions per run.
    until_solved: whether runs end early where the environment is solved.
    is_tiny: whether all sizes are reduced to a minimum.
    root: the folder of all runs.
    only_plot: whether to skip the training.
  """

  algorithms: tuple[str, ...]
  worlds: tuple[str, ...]
  num_seeds: int
  transitions: int
  until_solved: bool
  is_tiny: bool
  root: pathlib.Path
  only_plot: bool


def parse(argv: Sequence[str]) -> Arguments:
  """Parses the command line; bad input exits with one line."""
  from mbmpo_jax import algorithms

  with training_flags.one_line_errors():
    training_flags.parse_defined(argv, _NAMES)
    worlds = tuple(_ENVS.value)
    if worlds == ('all',):
      worlds = benchmark.WORLDS
    for flag, given in (('algorithm', _ALGORITHM.value), ('envs', worlds)):
      if not given:
        raise config_lib.ConfigError(f'--{flag}=: must name at least one')
    for world in worlds:
      benchmark.check(world, f'--envs={",".join(worlds)}')
    for name in _ALGORITHM.value:
      algorithms.config(name)
    if not _WORKDIR.value:
      raise config_lib.ConfigError("--workdir='': must name a folder")
    is_tiny = _TINY.value or tiny.wanted()
    return Arguments(
      tuple(dict.fromkeys(_ALGORITHM.value)),
      tuple(dict.fromkeys(worlds)),
      _NUM_SEEDS.value,
      _TRANSITIONS.value,
      _UNTIL_SOLVED.value,
      is_tiny,
      pathlib.Path(_WORKDIR.value, *(['tiny'] if is_tiny else [])),
      _ONLY_PLOT.value,
    )


def main(arguments: Arguments) -> None:
  """Trains unfinished runs and shows all results."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax import backend
  from mbmpo_jax.training import signals
  from mbmpo_jax.training.figures import benchmark as figure
  from mbmpo_jax.training.figures import costs
  from mbmpo_jax.training.figures import estimate
  from mbmpo_jax.training.figures import make
  from mbmpo_jax.training.figures import study
  from mbmpo_jax.training.launch import cache

  cache.enable()
  root = arguments.root
  with training_flags.one_line_errors():
    if not arguments.only_plot:
      # First, because some environments initialise JAX.
      backend.split_cpu(backend.num_cores())
    groups = figure.groups(
      arguments.algorithms,
      arguments.worlds,
      num_seeds=arguments.num_seeds,
      transitions=arguments.transitions,
      until_solved=arguments.until_solved,
      is_tiny=arguments.is_tiny,
    )
    figure.check(groups)
    if not arguments.only_plot:
      runs = study.runs(groups)
      print(f'benchmark, in {root}: {len(runs)} runs')
      for line in estimate.plan(groups, root, costs.seconds):
        print(line, flush=True)
      with signals.exiting() as stop:
        make.make(
          runs,
          root,
          stop=stop,
          left=lambda: estimate.seconds_left(runs, root, costs.seconds),
        )
        if stop.obeyed:
          return
    figure.show(study.read('full', root, groups), root)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
