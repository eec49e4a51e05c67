r"""Figure 2 of GSSM's paper: returns while the models are learned.

  python experiments/figures/gssm_fig2.py --quick

Over real transitions: the mean return of the last ten episodes of the policy,
for GSSM, the other surrogate models and L2A. Tasks change throughout training.
Claim: GSSM has a higher return than every other method. A method with fewer
transitions is compared at the end of its runs. The runs are shared with
`gssm_tables.py`, in the same folder.
"""

from typing import Any

from experiments.figures import gssm_methods as methods_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_OURS = 'gssm'


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  return [
    methods_lib.group(world, method, size)
    for world in methods_lib.WORLDS[size]
    for method in methods
  ]


def claims(found: study.Study) -> list[report.Claim]:
  made = []
  for world, entries in found.panels.items():
    by_key = {entry.group.key: entry for entry in entries}
    for key, entry in by_key.items():
      if _OURS in by_key and key != _OURS:
        made.append(higher(by_key[_OURS], entry, world))
  return [
    verdicts.all_of('GSSM ends higher than the other models', made),
    *made,
  ]


def higher(ours: study.Found, other: study.Found, world: str) -> report.Claim:
  """Returns the claim that our runs have a higher final return."""
  text = f'{ours.group.label} ends higher than {other.group.label} in {world}'
  return verdicts.better(
    ours,
    other,
    text,
    curves_of=lambda found: methods_lib.finished(found, world),
    window=1,  # The curves are already means.
  )


def draw(found: study.Study):
  return plot_paper.curves(panels(found))


def panels(found: study.Study) -> list[plot_paper.Panel]:
  """Returns the plot panels, one for each panel of the study."""
  made = []
  for title, entries in found.panels.items():
    world = methods_lib.world_of(entries[0])
    unit = 'step' if world in methods_lib.PER_STEP else 'episode'
    series = []
    for entry in entries:
      curves = methods_lib.collected(entry, world)
      series.append(
        plot_paper.Series(
          entry.group.label,
          entry.group.color,
          [curve.steps for curve in curves],
          [curve.returns for curve in curves],
        )
      )
    made.append(
      plot_paper.Panel(
        title.replace('_', ' '), series, y=f'return per {unit}, as collected'
      )
    )
  return made


def numbers(found: study.Study) -> Any:
  return {
    title: {
      entry.group.key: [
        {'steps': curve.steps, 'returns': curve.returns}
        for curve in methods_lib.collected(entry, methods_lib.world_of(entry))
      ]
      for entry in entries
    }
    for title, entries in found.panels.items()
  }


FIGURE = command.Figure(
  name='gssm_fig2',
  about='returns of GSSM and other surrogate models during training',
  methods=tuple(methods_lib.MODEL_BASED),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=numbers,
  costs=methods_lib.seconds,
  home='gssm',
)

if __name__ == '__main__':
  command.run(FIGURE)
