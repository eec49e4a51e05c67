r"""Figure 9 of M3PO's paper: the length of model rollouts.

  python experiments/figures/m3po_fig9.py --quick

M3PO with rollouts of k = 1, 3, 5, 10 and 20 steps that branch from real
histories, and with rollouts of whole episodes (Full). All use about the same
number of model steps per real step. k = 3 uses nine tenths of it on the point,
because the members share the rollouts equally, and k > 1 uses fewer where
episodes terminate. Claims: k = 1 has a higher final return than Full, and
than most of the longer branches. --quick has `point_direc`,
`half_cheetah_fwd_bwd` with every other k, and `half_cheetah_mass_damping`, the
half-cheetahs of GSSM's paper, with k = 1 and Full.
"""

from typing import Any

from experiments.figures import m3po_methods as methods_lib
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_HORIZONS = {f'k={k}': k for k in (1, 3, 5, 10, 20)}
_BEST, _FULL = 'k=1', 'full'
_METHODS = (*_HORIZONS, _FULL)
_ENVS = methods_lib.ENVS | {
  'quick': (*methods_lib.ENVS['quick'], 'half_cheetah_mass_damping')
}
# With --quick, one half-cheetah has every other k, the other only the extremes.
_LEFT_OUT = {
  ('quick', 'half_cheetah_fwd_bwd'): ('k=3', 'k=10'),
  ('quick', 'half_cheetah_mass_damping'): ('k=3', 'k=5', 'k=10', 'k=20'),
}


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  return [
    _group(size, env, key)
    for env in _ENVS[size]
    for key in methods
    if key not in _LEFT_OUT.get((size, env), ())
  ]


def _group(size: str, env: str, key: str) -> study.Group:
  made: Any = methods_lib.config('m3po', env, size)
  color = appearance.PALETTE[_METHODS.index(key)]
  if key == _BEST:
    # The same runs as in figure 7, in a shared folder.
    return study.seeds(env, made, methods_lib.SEEDS[size], label=key)
  values: dict[str, Any] = {'model_rollouts.kind': 'full'}
  if key != _FULL:
    members = made.model.num_models
    share = made.model_rollouts.num_rollouts // _HORIZONS[key] // members
    values = {
      'model_rollouts.horizon': _HORIZONS[key],
      'model_rollouts.num_rollouts': max(1, share) * members,
    }
  made = methods_lib.config('m3po', env, size, values=values)
  return study.seeds(
    env,
    made,
    methods_lib.SEEDS[size],
    key=f'm3po_{key}',
    label='Full' if key == _FULL else key,
    color=color,
  )


def claims(found: study.Study) -> list[report.Claim]:
  against: dict[str, list[report.Claim]] = {}
  for panel, entries in found.panels.items():
    by_key = {entry.group.key: entry for entry in entries}
    for key, entry in by_key.items():
      if 'm3po' in by_key and key != 'm3po':
        label = entry.group.label
        text = f'k=1 ends higher than {label} in {panel}'
        made = verdicts.better(by_key['m3po'], entry, text)
        against.setdefault(label, []).append(made)
  full = against.pop('Full', [])
  longer = [claim for claims in against.values() for claim in claims]
  return [
    verdicts.all_of('k=1 ends higher than rollouts of whole episodes', full),
    verdicts.most_of('k=1 mostly ends higher than longer branches', longer),
    *full,
    *longer,
  ]


def draw(found: study.Study):
  return plot_paper.curves(shown.panels(found))


FIGURE = command.Figure(
  name='m3po_fig9',
  about='M3PO with rollouts of k steps, and of whole episodes',
  methods=_METHODS,
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
  home='m3po_fig7',
)

if __name__ == '__main__':
  command.run(FIGURE)
