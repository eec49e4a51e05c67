r"""Figure 6 of MB-MPO's paper: the policy that collects the data.

  python experiments/figures/fig6.py --quick

Real data are collected with the adapted policies, one per model ("tailored"),
or with the policy before adaptation. The environments are HalfCheetah and
Walker2d. Claim: with tailored data, MB-MPO's final returns are 12% and 11%
higher.
"""

from typing import Any

from experiments.figures import methods as methods_lib
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_ENVS = {
  'tiny': ('point',),
  'quick': ('half_cheetah', 'walker2d'),
  'full': ('half_cheetah', 'walker2d'),
}
_PUBLISHED = {'half_cheetah': 0.12, 'walker2d': 0.11, 'point': 0.12}
_POLICIES = ('adapted', 'meta')
_LABELS = {'adapted': 'tailored', 'meta': 'not tailored'}
# The preset of Walker2d has the paper's larger models.
_QUICK = {'walker2d': {'model.hidden_sizes': (512, 512)}}


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  made = []
  for env in _ENVS[size]:
    for index, policy in enumerate(_POLICIES):
      values: dict[str, Any] = {'collect.policy': policy}
      if size == 'quick':
        values.update(_QUICK.get(env, {}))
      # Same names as in figures 1 and 2, so that their runs are reused.
      config = methods_lib.config('mbmpo', env, size, values)
      made.append(
        study.seeds(
          env,
          config,
          methods_lib.SEEDS[size],
          key='mbmpo' if policy == 'adapted' else 'mbmpo,policy=meta',
          label=_LABELS[policy],
          color=appearance.PALETTE[index],
        )
      )
  return made if methods else []


def claims(found: study.Study) -> list[report.Claim]:
  made = []
  for panel, (tailored, plain) in found.panels.items():
    text = f'tailored data improve what MB-MPO ends with in {panel}'
    made.append(verdicts.improves_by(tailored, plain, text, _PUBLISHED[panel]))
  return made


def draw(found: study.Study):
  return plot_paper.curves(shown.panels(found))


FIGURE = command.Figure(
  name='fig6',
  about='data from the adapted policies, or from the meta-policy',
  methods=('mbmpo',),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
  home='fig1',
)

if __name__ == '__main__':
  command.run(FIGURE)
