r"""Figure 1 of MB-MPO's paper: comparison with model-free methods.

  python experiments/figures/fig1.py --quick

Learning curves over real transitions on a logarithmic axis. Claim: MB-MPO
reaches its final return with 10 to 100 times fewer transitions than model-free
methods need for it; on the arm and the swimmer, with 20 to 50 times fewer.
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
# A common baseline today, which the paper does not include.
_NOT_IN_PAPER = ('sac',)
_METHODS = (_OURS, *methods_lib.MODEL_FREE)
_ENVS = {
  'tiny': ('point',),
  'quick': ('point', 'half_cheetah'),
  'full': methods_lib.FULL_ENVS,
}
_FACTORS = {'swimmer': 20, 'pr2_reacher': 20}
_OTHER_FACTORS = 10


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  return [
    study.seeds(
      env, methods_lib.config(method, env, size), methods_lib.SEEDS[size]
    )
    for env in _ENVS[size]
    for method in methods
  ]


def claims(found: study.Study) -> list[report.Claim]:
  single = [
    efficiency.fewer_samples(ours, entry, _FACTORS.get(panel, _OTHER_FACTORS))
    for panel, entries in found.panels.items()
    for ours in entries
    for entry in entries
    if ours.group.key == _OURS != entry.group.key
  ]
  text = (
    'MB-MPO needs 10 to 100 times fewer samples than methods without a model'
    ' for the return it ends with'
  )
  published = [c for c in single if c.numbers['method'] not in _NOT_IN_PAPER]
  return [verdicts.all_of(text, published), *single]


def draw(found: study.Study):
  return plot_paper.curves(shown.panels(found, log=True))


FIGURE = command.Figure(
  name='fig1',
  about='comparison of MB-MPO with model-free methods',
  methods=_METHODS,
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
)

if __name__ == '__main__':
  command.run(FIGURE)
