r"""Figure 6 of GSSM's paper: model-free PPO with a new task per episode.

  python experiments/figures/gssm_fig6.py --quick

Learning curves of DR-PPO, which does not observe the task, and PE-PPO, which
infers it, over real transitions. A vertical line marks the number of
transitions that GSSM and the other surrogate models use. Returns are means of
ten episodes. Claim: with that many transitions, the PPO methods have lower
returns than GSSM's final return. The runs of GSSM are shared with
`gssm_tables.py`, in the same folder.
"""

import numpy as np

from experiments.figures import gssm_fig2 as fig2
from experiments.figures import gssm_methods as methods_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_OURS = 'gssm'


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  return [
    methods_lib.group(world, method, size)
    for world in _worlds(size)
    for method in methods
  ]


def _worlds(size: str) -> tuple[str, ...]:
  """The environments of the figure.

  The paper compares the methods in the cart-pole only in its text. The size
  `tiny` has no other environment.
  """
  worlds = methods_lib.WORLDS[size]
  return worlds if size == 'tiny' else worlds[1:]


def _mark(found: study.Study, world: str) -> float:
  """Returns the number of transitions in a whole run of GSSM."""
  config = methods_lib.config(_OURS, world, found.size)
  steps = config.collect.steps
  return float(steps * config.run.num_iterations)


def _at(curve: curves.Curve, steps: float) -> float:
  """Returns the highest return up to `steps` transitions."""
  before = curve.returns[curve.steps <= steps]
  return float(before.max()) if before.size else float(curve.returns[0])


def claims(found: study.Study) -> list[report.Claim]:
  made = []
  for world, entries in found.panels.items():
    by_key = {entry.group.key: entry for entry in entries}
    ours, mark = by_key.get(_OURS), _mark(found, world)
    for key, entry in by_key.items():
      if ours is None or key == _OURS:
        continue
      label = entry.group.label
      text = (
        f'with the {mark:.0f} transitions of GSSM {label} earns less than it'
        f' ends with in {world}'
      )
      if not ours.finished or not entry.finished:
        made.append(verdicts.missing(text, ours, entry))
        continue
      mine = methods_lib.ends(ours, world)
      theirs = [
        _at(curve, mark)
        for curve in methods_lib.collected(entry, world)
        if curve.steps.size
      ]
      gain = intervals.difference(mine, theirs)
      reason = (
        f'GSSM ends with {np.mean(mine):.4g}, {label} had at most'
        f' {np.mean(theirs):.4g} by then; the difference is {gain.text()}'
      )
      numbers = {'panel': world, 'method': key, 'difference': gain}
      verdict = report.verdict(gain, 0.0, strict=True)
      made.append(report.Claim(text, verdict, reason, numbers))
  return made


def draw(found: study.Study):
  marked = []
  for panel, world in zip(fig2.panels(found), found.panels, strict=True):
    mark = plot_paper.Level('all transitions of GSSM', _mark(found, world))
    marked.append(panel._replace(marks=(mark,)))
  return plot_paper.curves(marked)


FIGURE = command.Figure(
  name='gssm_fig6',
  about='PPO on random tasks; transitions that GSSM uses',
  methods=(_OURS, *methods_lib.MODEL_FREE),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=fig2.numbers,
  costs=methods_lib.seconds,
  home='gssm',
)

if __name__ == '__main__':
  command.run(FIGURE)
