r"""The table of MB-MPO's appendix A.4: time against TRPO on HalfCheetah.

  python experiments/figures/wall_clock.py --quick

The time that each method takes to reach MB-MPO's final return, without
evaluations and compilation. In the paper, MB-MPO takes 7 hours and TRPO 5.5,
with 70 times fewer samples for MB-MPO. The runs are those of figure 1, in its
folder. Times are valid only if nothing else ran on the machine.
"""

from experiments.figures import methods as methods_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import efficiency
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import plot_paper

_METHODS = ('mbmpo', 'trpo')
_HOURS = {'mbmpo': 7.0, 'trpo': 5.5}
_FEWER = 70


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  env = 'point' if size == 'tiny' else 'half_cheetah'
  return [
    study.seeds(
      env, methods_lib.config(method, env, size), methods_lib.SEEDS[size]
    )
    for method in methods
  ]


def claims(found: study.Study) -> list[report.Claim]:
  by_key = {entry.group.key: entry for entry in found.groups}
  if set(_METHODS) - set(by_key):
    return []
  ours, other = (by_key[name] for name in _METHODS)
  most = _HOURS['mbmpo'] / _HOURS['trpo']
  return [
    efficiency.time_within(ours, other, most),
    efficiency.fewer_samples(ours, other, _FEWER),
  ]


def table(found: study.Study) -> list[tuple[str, ...]]:
  by_key = {entry.group.key: entry for entry in found.groups}
  rows: list[tuple[str, ...]] = [
    ('method', 'paper', 'return', 'runs', 'time', 'transitions')
  ]
  ours = by_key.get('mbmpo')
  if ours is None or not ours.finished:
    return rows
  target = sum(ours.finals) / len(ours.finals)
  for key, entry in by_key.items():
    if not entry.finished:
      continue
    own = ours.finals if entry is ours else [target] * len(entry.finished)
    time, steps = (
      efficiency.cost(entry.curves, own, of) for of in ('seconds', 'steps')
    )
    # Some runs never reach the return, so their numbers are lower bounds.
    more = '> ' if steps.censored else ''
    rows.append(
      (
        entry.group.label,
        f'{_HOURS[key]:g} h',
        f'{target:.4g}',
        f'{time.num_reached} of {len(time.spent)}',
        more + efficiency.typical(time.spent, pace.duration),
        more + efficiency.typical(steps.spent),
      )
    )
  return rows


def draw(found: study.Study):
  (samples,) = shown.panels(found, log=True)
  (time,) = shown.panels(found, log=True, time=True)
  return plot_paper.curves([samples, time])


FIGURE = command.Figure(
  name='wall_clock',
  about='training time of MB-MPO and TRPO until the same return',
  methods=_METHODS,
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
  home='fig1',
  table=table,
)

if __name__ == '__main__':
  command.run(FIGURE)
