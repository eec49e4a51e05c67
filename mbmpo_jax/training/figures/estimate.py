"""Estimates time, memory and disk space of a figure before it starts."""

import math
import pathlib
from collections.abc import Callable, Sequence

import jax

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import loop
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import progress

# Maps a configuration to the seconds of its whole run.
Costs = Callable[[config_lib.Experiment], float]

# Measured memory of Python, JAX, compilation and a phase's imagined data.
_PROCESS_BYTES = 1.2e9
# Copies of a state: the current one, the updated one, the saved one, and two
# policies.
_COPIES = 4


def seconds_left(
  runs: Sequence[study.Run], root: pathlib.Path, costs: Costs
) -> float:
  """Estimates the seconds of all unfinished runs.

  The estimate is scaled by the times that runs of the same algorithm have taken
  so far.

  Args:
    runs: the runs of the figure.
    root: its folder.
    costs: the estimated seconds of a run.

  Returns:
    Seconds; NaN if an algorithm's costs are not known.
  """
  rows = {run.name: study.rows_of(root, run) for run in runs}
  total = 0.0
  for run in runs:
    share = 1 - _share_done(run, rows[run.name])
    alike = [r for r in runs if r.config.algorithm == run.config.algorithm]
    factor = _slowness(alike, rows, costs)
    total += share * costs(run.config) * factor
  return total


def state_bytes(
  config: config_lib.Experiment,
  make_algorithm: loop.MakeAlgorithm | None = None,
) -> int:
  """Returns the bytes of a run's state: buffer, networks and optimisers.

  Nothing is computed.
  """
  env = envs.make(config.env.name, config.env.variant)
  algorithm = loop.make(make_algorithm, env, config)
  state = jax.eval_shape(
    lambda: algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  )
  leaves = jax.tree.leaves(state)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def plan(
  groups: Sequence[study.Group],
  root: pathlib.Path,
  costs: Costs,
  *,
  make_algorithm: loop.MakeAlgorithm | None = None,
) -> list[str]:
  """Returns lines of text: a row per group, and sums over unfinished runs.

  Args:
    groups: the groups of the figure.
    root: its folder.
    costs: the estimated seconds of a run.
    make_algorithm: as for `loop.train`.
  """
  runs = study.runs(groups)
  rows = {run.name: study.rows_of(root, run) for run in runs}
  table = [('runs', 'seeds', 'transitions', 'each', 'done')]
  for group in groups:
    config = group.runs[0].config
    transitions = config.collect.steps * config.run.num_iterations
    done = sum(study.is_done(run, rows[run.name]) for run in group.runs)
    table.append(
      (
        f'{group.panel}: {group.label}',
        str(len(group.runs)),
        pace.count(transitions),
        pace.duration(costs(config)),
        f'{done} of {len(group.runs)}',
      )
    )
  widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
  lines = [
    '  '
    + '  '.join(
      f'{text:<{width}}' for text, width in zip(row, widths, strict=True)
    ).rstrip()
    for row in table
  ]
  todo = [r for r in runs if not study.is_done(r, rows[r.name])]
  if not todo:
    return [*lines, f'  all {len(runs)} runs are done']
  sizes = _sizes(todo, make_algorithm)
  most = max(
    sizes[_shape(run)] * (len(run.sweep.grid.runs()) if run.sweep else 1)
    for run in todo
  )
  disk = sum(
    sizes[_shape(run)] * (run.config.run.keep_checkpoints + 1) for run in todo
  )
  left = pace.duration(seconds_left(runs, root, costs))
  memory = _PROCESS_BYTES + _COPIES * most
  lines += [
    f'  to do: {len(todo)} of {len(runs)} runs',
    f'  time: about {left}, by costs measured on 2 cores; half or three times'
    ' that on others. It is told anew after each run',
    f'  memory: about {memory / 1e9:.1f} GB, with {_COPIES} copies of'
    f' {most / 1e6:.3g} MB, the largest buffer, networks and optimisers',
    f'  disk: about {max(disk / 1e6, 1):.0f} MB',
  ]
  return lines


def _sizes(
  runs: Sequence[study.Run], make_algorithm: loop.MakeAlgorithm | None
) -> dict[config_lib.Experiment, int]:
  """Returns the bytes of states, by `_shape`."""
  shapes = dict.fromkeys(map(_shape, runs))
  return {shape: state_bytes(shape, make_algorithm) for shape in shapes}


def _shape(run: study.Run) -> config_lib.Experiment:
  """Returns the configuration that runs of all seeds share."""
  return config_lib.replaced(run.config, {'seed': 0})


def _share_done(run: study.Run, rows: list[dict[str, float]]) -> float:
  if study.is_done(run, rows):
    return 1.0
  return min(1.0, len(rows) / run.config.run.num_iterations)


def _slowness(
  runs: Sequence[study.Run],
  rows: dict[str, list[dict[str, float]]],
  costs: Costs,
) -> float:
  """Returns actual time divided by estimated time; 1 if no run has begun."""
  took = should = 0.0
  for run in runs:
    own = rows[run.name]
    if own:
      # The times of a sweep's runs are of all runs together.
      together = len(run.sweep.grid.runs()) if run.sweep else 1
      took += sum(map(progress.seconds, own)) / together
      should += _share_done(run, own) * costs(run.config)
  return took / should if took and should else 1.0
