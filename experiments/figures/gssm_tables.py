r"""Tables 1, 2 and 6 of GSSM's paper, and model error by context size.

  python experiments/figures/gssm_tables.py --quick

In tasks that no run was trained on: the error of the learned models, the
returns of the policies and the seconds that adaptation takes, beside the
published values. All models predict the same transitions, half from random
actions, half from a trained policy of GSSM. They are compared task by task and
seed by seed. Claims: GSSM's model distinguishes
tasks, its error is below the errors of MLSM-v0 and M-DPILCO, its returns equal
the paper's, and its adaptation time is negligible.
"""

from typing import Any

import numpy as np

from experiments.figures import gssm_methods as methods_lib
from experiments.figures import gssm_published as published
from experiments.figures import gssm_unseen as unseen
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import unseen_tasks
from mbmpo_jax.training.reporting import plot_paper

_OURS = 'gssm'
_BELOW = ('mlsm_v0', 'm_dpilco')
# Target returns per step, where the paper reports those.
_AIMS = {'cartpole_swingup': -0.60, 'acrobot': -0.47}
_MOST_SECONDS = 0.01


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  return [
    methods_lib.group(world, method, size)
    for world in methods_lib.WORLDS[size]
    for method in methods_lib.compared(world, methods)
  ]


def table(found: study.Study) -> list[tuple[str, ...]]:
  measured = unseen.Measured(found)
  rows: list[tuple[str, ...]] = [
    ('world', 'what', 'method', 'here', 'seeds', 'paper', 'transitions')
  ]
  for what in (published.MODEL, published.RETURN, published.SECONDS):
    for world, entries in found.panels.items():
      for entry in entries:
        key = entry.group.key
        values = measured.of(world, key)
        here, seeds = _here(what, entry, values)
        paper = published.VALUES[what].get(world, {}).get(key, '')
        if here or paper:
          rows.append(
            (
              world,
              what,
              entry.group.label,
              here or 'not measured',
              seeds,
              paper or 'none',
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
) -> tuple[str, str]:
  """Formats mean and deviation over tasks, and the mean of each seed.

  The deviation is that over tasks of one seed, mean over seeds. Both are ''
  without values.
  """
  if not values:
    return '', ''
  each = {
    published.RETURN: unseen.returns(entry, values),
    published.MODEL: [x.own for x in values],
    published.SECONDS: [x.seconds for x in values],
  }[what]
  if not each[0]:
    return '', ''
  means, deviations = np.mean(each, 1), np.std(each, 1)
  return (
    f'{np.mean(means):.4g} ± {np.mean(deviations):.2g}',
    ', '.join(f'{mean:.3g}' for mean in means),
  )


def claims(found: study.Study) -> list[report.Claim]:
  measured = unseen.Measured(found)
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
  own = [x.own for x in ours]
  half = [[0.5 * value for value in x.other] for x in ours]
  told = (
    f'it is {np.mean(own):.3g} and {2 * np.mean(half):.3g}; of half of the'
    ' second and the first'
  )
  return unseen.more(text, half, own, told, paired=True)


def _lower(
  world: str,
  ours: list[unseen_tasks.Found],
  others: list[unseen_tasks.Found],
  label: str,
) -> report.Claim:
  text = f"GSSM's error is below {label}'s in {world}"
  if not ours or not others:
    return report.undecided(text, 'runs are missing')
  mine, theirs = ([x.own for x in runs] for runs in (ours, others))
  told = f'it is {np.mean(mine):.3g}, the other {np.mean(theirs):.3g}'
  return unseen.more(text, theirs, mine, told)


def _reached(
  world: str, entry: study.Found, ours: list[unseen_tasks.Found]
) -> report.Claim:
  paper = published.VALUES[published.RETURN][world][_OURS]
  aim = _AIMS.get(world, float(paper.split()[0]))
  text = f'GSSM returns at least {aim:g} in {world}'
  if not ours:
    return report.undecided(text, 'runs are missing')
  each = [float(np.mean(values)) for values in unseen.returns(entry, ours)]
  mean = intervals.mean(each)
  reason = f'it returns {mean.text()} seeds; published is {paper}'
  return report.Claim(text, report.verdict(mean, aim), reason, {'each': each})


def _fast(world: str, ours: list[unseen_tasks.Found]) -> report.Claim:
  most = 1000 * _MOST_SECONDS
  text = f'GSSM adapts in less than {most:g} ms in {world}'
  if not ours:
    return report.undecided(text, 'runs are missing')
  each = [1000 * s for x in ours for s in x.seconds]
  verdict = report.HELD if max(each) < most else report.FAILED
  return report.Claim(
    text, verdict, f'it takes at most {max(each):.3g} ms', {'each': each}
  )


def draw(found: study.Study):
  measured = unseen.Measured(found)
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
  measured = unseen.Measured(found)
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
