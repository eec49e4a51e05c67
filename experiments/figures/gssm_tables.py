r"""Tables 1, 2 and 6 of GSSM's paper, and model error by context size.

  python experiments/figures/gssm_tables.py --quick

In tasks that no run was trained on: the error of the learned models, the
returns of the policies and the seconds that adaptation takes, beside the
published values. All models predict the same transitions, half from random
actions, half from a trained policy of GSSM, and are compared task by task: the
intervals are over tasks, not over seeds. Claims: GSSM's model distinguishes
tasks, its error is below the errors of MLSM-v0 and M-DPILCO, its returns equal
the paper's, and its adaptation time is negligible.
"""

import math
from typing import Any

import numpy as np

from experiments.figures import gssm_methods as methods_lib
from experiments.figures import gssm_published as published
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import task_pools
from mbmpo_jax.training.figures import unseen_tasks
from mbmpo_jax.training.reporting import plot_paper

_OURS = 'gssm'
_BELOW = ('mlsm_v0', 'm_dpilco')
# Target returns per step, where the paper reports those.
_AIMS = {'cartpole_swingup': -0.60, 'acrobot': -0.47}
_MOST_SECONDS = 0.01
# A planner predicts tens of thousands of steps for each real step.
_PLANNED_EPISODES = 2


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  return [
    methods_lib.group(world, method, size)
    for world in methods_lib.WORLDS[size]
    for method in methods_lib.compared(world, methods)
  ]


def _sizes(world: str, size: str, method: str) -> task_pools.Sizes:
  context = methods_lib.context(world, size)
  standardized = world not in methods_lib.PER_STEP
  if size == 'tiny':
    return task_pools.Sizes(context, 6, 1, 2, standardized)
  episodes = methods_lib.EPISODES
  if method == 'l2a':
    episodes = _PLANNED_EPISODES
  return task_pools.Sizes(context, episodes=episodes, standardized=standardized)


class _Measured:
  """Evaluations of the finished runs of a study, each computed once."""

  def __init__(self, found: study.Study) -> None:
    self._found: dict[tuple[str, str], list[unseen_tasks.Found]] = {}
    for world, entries in found.panels.items():
      by_key = {entry.group.key: entry for entry in entries}
      pools = self._pools(found, world, entries)
      for key, entry in by_key.items():
        knows = key in methods_lib.MODEL_BASED
        self._found[world, key] = [
          unseen_tasks.kept(
            found.root / run.name,
            pools if knows else None,
            _sizes(world, found.size, key),
          )
          for run in _done(entry)
        ]

  def _pools(
    self, found: study.Study, world: str, entries: list[study.Found]
  ) -> task_pools.Pools | None:
    """Returns transitions of unseen tasks, collected with a finished run.

    It is the first finished run of GSSM, or of another surrogate model if GSSM
    has none.
    """
    runs = [
      run
      for entry in entries
      if methods_lib.METHODS[entry.group.key].kind
      for run in _done(entry)
    ]
    if not runs:
      return None
    return task_pools.kept_pools(
      found.root / world / 'unseen_tasks.npz',
      found.root / runs[0].name,
      _sizes(world, found.size, _OURS),
    )

  def of(self, world: str, key: str) -> list[unseen_tasks.Found]:
    """Returns the evaluations of a method in an environment, by seed."""
    return self._found.get((world, key), [])


def _done(entry: study.Found) -> list[study.Run]:
  return [
    run
    for run, rows in zip(entry.group.runs, entry.rows, strict=True)
    if study.is_done(run, rows)
  ]


def _per_task(values: list[list[float]]) -> np.ndarray:
  """Returns means over seeds, [M]."""
  return np.mean(np.asarray(values, float), 0)


def _returns(
  entry: study.Found, measured: list[unseen_tasks.Found]
) -> list[list[float]]:
  """Returns mean returns by seed and task, in the paper's units."""
  world = entry.group.panel
  unit = methods_lib.unit(world, entry.group.runs[0])
  return [[value / unit for value in x.returns] for x in measured]


def table(found: study.Study) -> list[tuple[str, ...]]:
  measured = _Measured(found)
  rows: list[tuple[str, ...]] = [
    ('world', 'what', 'method', 'here', 'paper', 'seeds', 'transitions')
  ]
  for what in (published.MODEL, published.RETURN, published.SECONDS):
    for world, entries in found.panels.items():
      for entry in entries:
        key = entry.group.key
        values = measured.of(world, key)
        here = _here(what, entry, values)
        paper = published.VALUES[what].get(world, {}).get(key, '')
        if here or paper:
          rows.append(
            (
              world,
              what,
              entry.group.label,
              here or 'not measured',
              paper or 'none',
              str(len(values)),
              _transitions(entry),
            )
          )
  return rows


def _transitions(entry: study.Found) -> str:
  """Formats the number of real transitions of a finished run."""
  rows = entry.finished
  return f'{rows[0][-1]["env_steps"]:.0f}' if rows else ''


def _here(
  what: str, entry: study.Found, values: list[unseen_tasks.Found]
) -> str:
  """Formats mean and standard deviation over tasks, or '' without values.

  Each task's value is its mean over seeds.
  """
  if not values:
    return ''
  if what == published.SECONDS:
    seconds = float(np.mean([x.seconds for x in values]))
    return '' if math.isnan(seconds) else f'{seconds:.3g}'
  each = _returns(entry, values)
  if what == published.MODEL:
    each = [x.own for x in values]
  if not each[0]:
    return ''
  tasks = _per_task(each)
  return f'{np.mean(tasks):.4g} ± {np.std(tasks):.2g}'


def claims(found: study.Study) -> list[report.Claim]:
  measured = _Measured(found)
  made = []
  for world, entries in found.panels.items():
    by_key = {entry.group.key: entry for entry in entries}
    if _OURS not in by_key:
      continue
    ours = measured.of(world, _OURS)
    made.append(_apart(world, ours))
    made += [
      _lower(world, ours, measured.of(world, key), by_key[key].group.label)
      for key in _BELOW
      if key in by_key
    ]
    made.append(_reached(world, by_key[_OURS], ours))
    made.append(_fast(world, ours))
  return made


def _apart(world: str, ours: list[unseen_tasks.Found]) -> report.Claim:
  text = (
    "GSSM's error with transitions of the task is at most half of that with"
    f' those of another one, in {world}'
  )
  if not ours:
    return report.undecided(text, 'runs are missing')
  own, other = (
    _per_task([getattr(x, name) for x in ours]) for name in ('own', 'other')
  )
  # Compare means over tasks, because single tasks may be similar.
  gap = intervals.mean((0.5 * other - own).tolist())
  reason = (
    f'it is {np.mean(own):.3g} and {np.mean(other):.3g}; half of the one less'
    f' the other is {gap.text()} tasks, each the mean of {len(ours)} seeds'
  )
  return report.Claim(
    text, report.verdict(gap, 0.0), reason, {'own': own, 'other': other}
  )


def _lower(
  world: str,
  ours: list[unseen_tasks.Found],
  others: list[unseen_tasks.Found],
  label: str,
) -> report.Claim:
  text = f"GSSM's error is below {label}'s in {world}"
  if not ours or not others:
    return report.undecided(text, 'runs are missing')
  mine, theirs = (_per_task([x.own for x in runs]) for runs in (ours, others))
  gap = intervals.mean((theirs - mine).tolist())
  reason = (
    f'it is {np.mean(mine):.3g}, the other {np.mean(theirs):.3g}; task by task'
    f' the difference is {gap.text()} tasks, each the mean of {len(ours)} and'
    f' {len(others)} seeds'
  )
  return report.Claim(
    text, report.verdict(gap, 0.0), reason, {'ours': mine, 'theirs': theirs}
  )


def _reached(
  world: str, entry: study.Found, ours: list[unseen_tasks.Found]
) -> report.Claim:
  paper = published.VALUES[published.RETURN][world][_OURS]
  aim = _AIMS.get(world, float(paper.split()[0]))
  text = f'GSSM returns at least {aim:g} in {world}'
  if not ours:
    return report.undecided(text, 'runs are missing')
  each = [float(np.mean(values)) for values in _returns(entry, ours)]
  mean = intervals.mean(each)
  reason = f'it returns {mean.text()} seeds; published is {paper}'
  return report.Claim(text, report.verdict(mean, aim), reason, {'each': each})


def _fast(world: str, ours: list[unseen_tasks.Found]) -> report.Claim:
  most = 1000 * _MOST_SECONDS
  text = f'GSSM adapts in less than {most:g} ms in {world}'
  if not ours:
    return report.undecided(text, 'runs are missing')
  each = [1000 * x.seconds for x in ours]
  verdict = report.HELD if max(each) < most else report.FAILED
  return report.Claim(
    text, verdict, f'it takes at most {max(each):.3g} ms', {'each': each}
  )


def draw(found: study.Study):
  measured = _Measured(found)
  panels = []
  for world, entries in found.panels.items():
    series = []
    for entry in entries:
      runs = [x for x in measured.of(world, entry.group.key) if x.by_size]
      if runs:
        sizes = np.asarray(list(runs[0].by_size), float)
        values = [
          np.asarray([np.mean(v) for v in x.by_size.values()]) for x in runs
        ]
        series.append(
          plot_paper.Series(
            entry.group.label, entry.group.color, [sizes] * len(runs), values
          )
        )
    panels.append(
      plot_paper.Panel(
        world.replace('_', ' '),
        series,
        x='context points',
        y='squared error in unseen tasks',
        log=True,
      )
    )
  return plot_paper.curves(panels)


def numbers(found: study.Study) -> Any:
  measured = _Measured(found)
  return {
    world: {
      entry.group.key: [
        x._asdict() for x in measured.of(world, entry.group.key)
      ]
      for entry in entries
    }
    for world, entries in found.panels.items()
  }


FIGURE = command.Figure(
  name='gssm_tables',
  about='model errors, returns and adaptation times in unseen tasks',
  methods=tuple(methods_lib.METHODS),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=numbers,
  costs=methods_lib.seconds,
  home='gssm',
  table=table,
)

if __name__ == '__main__':
  command.run(FIGURE)
