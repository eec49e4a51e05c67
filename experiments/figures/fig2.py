r"""Figure 2 of MB-MPO's paper: comparison with other model-based methods.

  python experiments/figures/fig2.py --quick

Learning curves of MB-MPO, ME-TRPO and MB-MPC. Claims: MB-MPO has a higher final
return, and reaches the final returns of the other methods with fewer
transitions.
"""

from experiments.figures import methods as methods_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import efficiency
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_OURS = 'mbmpo'
_METHODS = (_OURS, 'me_trpo', 'mb_mpc')
_ENVS = {
  'tiny': ('point',),
  'quick': ('point', 'half_cheetah'),
  'full': methods_lib.FULL_ENVS,
}


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  return [
    study.seeds(
      env, methods_lib.config(method, env, size), methods_lib.SEEDS[size]
    )
    for env in _ENVS[size]
    for method in methods
  ]


def claims(found: study.Study) -> list[report.Claim]:
  pairs = [
    (panel, ours, entry)
    for panel, entries in found.panels.items()
    for ours in entries
    for entry in entries
    if ours.group.key == _OURS != entry.group.key
  ]
  higher = [
    verdicts.better(
      ours, other, f'MB-MPO ends higher than {other.group.label} in {panel}'
    )
    for panel, ours, other in pairs
  ]
  sooner = [efficiency.sooner(ours, other) for _, ours, other in pairs]
  return [
    verdicts.all_of('MB-MPO ends higher than methods with models', higher),
    verdicts.all_of('MB-MPO learns faster than they do', sooner),
    *higher,
    *sooner,
  ]


def draw(found: study.Study):
  return plot_paper.curves(shown.panels(found))


FIGURE = command.Figure(
  name='fig2',
  about='comparison of MB-MPO with ME-TRPO and MB-MPC',
  methods=_METHODS,
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
  home='fig1',
)

if __name__ == '__main__':
  command.run(FIGURE)
