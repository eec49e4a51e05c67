r"""Figure 3 of GSSM's paper: policies with and without the task latent z.

  python experiments/figures/gssm_fig3.py --quick

GSSM in the acrobot: with a policy that receives z, with one that does not, and
with z of size 16, 32 and 64. Claims: the policy that receives z has a higher
final return, while it learns and in unseen tasks; a larger z has a higher
return in unseen tasks.
"""

from experiments.figures import gssm_fig2 as fig2
from experiments.figures import gssm_methods as methods_lib
from experiments.figures import gssm_unseen as unseen
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study

_AMORTISED, _LATENT = 'amortised', 'dim z'
_SIZES = {'tiny': (2, 3), 'quick': (16, 32, 64), 'full': (16, 32, 64)}


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  world = methods_lib.CARTPOLE if size == 'tiny' else methods_lib.ACROBOT
  made = []
  if _AMORTISED in methods:
    # The same runs as in the tables, in a shared folder.
    made.append(
      methods_lib.group(world, 'gssm', size, label='told z', panel=_AMORTISED)
    )
    made.append(
      methods_lib.group(
        world,
        'gssm',
        size,
        key='not_amortised',
        label='not told',
        color=appearance.PALETTE[1],
        values={'policy.amortised': False},
        panel=_AMORTISED,
      )
    )
  if _LATENT in methods:
    first, *others = _SIZES[size]
    made.append(
      methods_lib.group(
        world, 'gssm', size, label=f'dim z {first}', panel=_LATENT
      )
    )
    for number, color in zip(others, appearance.PALETTE[3:], strict=False):
      made.append(
        methods_lib.group(
          world,
          'gssm',
          size,
          key=f'latent_{number}',
          label=f'dim z {number}',
          color=color,
          values={'model.latent_size': number},
          panel=_LATENT,
        )
      )
  return made


def claims(found: study.Study) -> list[report.Claim]:
  measured = unseen.Measured(found)
  made: list[report.Claim] = []
  if _AMORTISED in found.panels:
    told, other = found.panels[_AMORTISED]
    made += [
      fig2.higher(told, other, methods_lib.world_of(told)),
      unseen.higher(measured, told, other),
    ]
  if _LATENT in found.panels:
    first, *others = found.panels[_LATENT]
    made += [unseen.higher(measured, larger, first) for larger in others]
  return made


FIGURE = command.Figure(
  name='gssm_fig3',
  about='policies with and without the task latent z; sizes of z',
  methods=(_AMORTISED, _LATENT),
  groups=groups,
  claims=claims,
  draw=fig2.draw,
  numbers=fig2.numbers,
  costs=methods_lib.seconds,
  home='gssm',
)

if __name__ == '__main__':
  command.run(FIGURE)
