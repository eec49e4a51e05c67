r"""Figure 3 of GSSM's paper: policies with and without the task latent z.

  python experiments/figures/gssm_fig3.py --quick

GSSM in the acrobot: with a policy that receives z, with one that does not, and
with z of size 16, 32 and 64. With `--quick` decoders are half as wide and less
deep than the preset's, and a fit has 300 gradient steps instead of 500. Claims:
the policy that receives z has a higher final return, while it learns and in
unseen tasks; a larger z has a higher return in unseen tasks.
"""

from collections.abc import Mapping
from typing import Any

from experiments.figures import gssm_fig2 as fig2
from experiments.figures import gssm_methods as methods_lib
from experiments.figures import gssm_unseen as unseen
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study

_AMORTISED, _LATENT = 'amortised', 'dim z'
_SIZES = {'tiny': (2, 3), 'quick': (16, 32, 64), 'full': (16, 32, 64)}
# The key of the runs that others are compared with. With `--quick` their models
# are smaller than those of the tables; otherwise they are the tables' runs.
_BASE = {'tiny': 'gssm', 'quick': 'small', 'full': 'gssm'}
_VALUES: dict[str, dict[str, Any]] = {
  'quick': {'model.decoder_sizes': (200,) * 3, 'model.gradient_steps': 300}
}


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  made = []
  if _AMORTISED in methods:
    made += [
      _group(size, _AMORTISED, 'told z'),
      _group(
        size,
        _AMORTISED,
        'not told',
        key='not_amortised',
        color=appearance.PALETTE[1],
        values={'policy.amortised': False},
      ),
    ]
  if _LATENT in methods:
    first, *others = _SIZES[size]
    made.append(_group(size, _LATENT, f'dim z {first}'))
    made += [
      _group(
        size,
        _LATENT,
        f'dim z {number}',
        key=f'latent_{number}',
        color=color,
        values={'model.latent_size': number},
      )
      for number, color in zip(others, appearance.PALETTE[3:], strict=False)
    ]
  return made


def _group(
  size: str,
  panel: str,
  label: str,
  *,
  key: str | None = None,
  color: str | None = None,
  values: Mapping[str, Any] | None = None,
) -> study.Group:
  world = methods_lib.CARTPOLE if size == 'tiny' else methods_lib.ACROBOT
  return methods_lib.group(
    world,
    'gssm',
    size,
    key=key or _BASE[size],
    label=label,
    color=color,
    values=_VALUES.get(size, {}) | dict(values or {}),
    panel=panel,
  )


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
