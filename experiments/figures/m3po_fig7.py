r"""Figure 7 of M3PO's paper: comparison with other adaptive methods.

  python experiments/figures/m3po_fig7.py --quick

Learning curves of M3PO, PEARL and L2A in environments with a hidden task; and
of long-term training: M3PO, PEARL, and M3PO-h, whose minibatches contain an
increasing share of real data. Claims: at equal steps, the final return of M3PO
is higher than those of PEARL and L2A; in long-term training, PEARL has a higher
final return than M3PO in three environments, and M3PO-h at least as high a one
as PEARL. L2A also plans in evaluations: on half-cheetahs with --quick, it is
evaluated with 2 episodes, the others with 5. --quick compares the methods on
`point_direc` and `half_cheetah_fwd_bwd`, and has one curve of M3PO, of one
seed, in the paper's other environments.
"""

from typing import Any

from experiments.figures import m3po_methods as methods_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_OURS, _OURS_LONG = 'm3po', 'm3po_long'
_MIXED_LONG, _PEARL_LONG = 'm3po_h_long', 'pearl_long'
# Environments in which the paper's long-term M3PO is worse than PEARL.
_BEHIND = ('half_cheetah_pier', 'walker2d_randparams', 'humanoid_direc')
# By key: algorithm, label, colour, whether it is long-term; `None` stands for
# the algorithm's label or colour.
_LOOKS: dict[str, tuple[str, str | None, str | None, bool]] = {
  _OURS: ('m3po', None, None, False),
  'pearl': ('pearl', None, None, False),
  'l2a': ('l2a', None, None, False),
  _OURS_LONG: ('m3po', 'M3PO-long', '#88CCEE', True),
  _MIXED_LONG: ('m3po', 'M3PO-h-long', '#AA4499', True),
  _PEARL_LONG: ('pearl', 'PEARL-long', '#DDCC77', True),
}


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  made = [
    _group(size, env, key) for env in methods_lib.ENVS[size] for key in methods
  ]
  if _OURS in methods:
    made += [_group(size, env, _OURS) for env in methods_lib.ALONE[size]]
  return made


def _group(size: str, env: str, key: str) -> study.Group:
  algorithm, label, color, long = _LOOKS[key]
  values: dict[str, Any] = {}
  if key == _MIXED_LONG:
    values['batches.kind'] = 'mixed'
  made: Any = methods_lib.config(algorithm, env, size, long=long, values=values)
  if key == _MIXED_LONG:
    # At the end its minibatches contain no imagined data.
    made.batches.decay_steps = made.run.num_iterations * made.collect.steps
  return study.seeds(
    env,
    made,
    1 if env in methods_lib.ALONE[size] else methods_lib.SEEDS[size],
    key=key,
    label=label,
    color=color,
    folder=_MIXED_LONG if key == _MIXED_LONG else algorithm,
  )


def claims(found: study.Study) -> list[report.Claim]:
  higher, long, behind = [], [], []
  for panel, entries in found.panels.items():
    by_key = {entry.group.key: entry for entry in entries}
    for key in ('pearl', 'l2a'):
      if _OURS in by_key and key in by_key:
        label = by_key[key].group.label
        text = f'M3PO ends higher than {label} in {panel}'
        higher.append(verdicts.better(by_key[_OURS], by_key[key], text))
    if _MIXED_LONG in by_key and _PEARL_LONG in by_key:
      text = f'M3PO-h-long ends at least as high as PEARL-long in {panel}'
      long.append(
        verdicts.better(by_key[_MIXED_LONG], by_key[_PEARL_LONG], text)
      )
    if panel in _BEHIND and {_OURS_LONG, _PEARL_LONG} <= by_key.keys():
      text = f'PEARL-long ends higher than M3PO-long in {panel}'
      behind.append(
        verdicts.better(by_key[_PEARL_LONG], by_key[_OURS_LONG], text)
      )
  return [
    verdicts.all_of('M3PO ends higher than PEARL and than L2A', higher),
    verdicts.all_of('M3PO-h-long ends at least as high as PEARL-long', long),
    *higher,
    *long,
    *behind,
  ]


def draw(found: study.Study):
  return plot_paper.curves(shown.panels(found))


FIGURE = command.Figure(
  name='m3po_fig7',
  about='M3PO, PEARL and L2A in environments with a hidden task',
  methods=tuple(_LOOKS),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
)

if __name__ == '__main__':
  command.run(FIGURE)
