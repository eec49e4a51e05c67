r"""Figure 3 of MB-MPO's paper: model disagreement and policy adaptation.

  python experiments/figures/fig3.py --quick

In the 2-D point environment after 50 iterations, the figure shows over a grid
of states the standard deviation of the ensemble's predictions and the KL
divergence between the policy before and after adaptation. Claim: the two are
strongly correlated. Neighbouring grid points are not independent, so each seed
gives one correlation, and the confidence interval is over seeds.
"""

from typing import Any

import numpy as np

from experiments.figures import methods as methods_lib
from mbmpo_jax import config as config_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import state_space
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.reporting import plot_paper

_SEEDS = {'tiny': 2, 'quick': 5, 'full': 5}
_ITERATIONS = {'tiny': 2, 'quick': 50, 'full': 50}
_STRONG = 0.5
_LOW, _HIGH = -2.0, 2.0
_COUNT = {'tiny': 9, 'quick': 41, 'full': 41}
# The buffer keeps all real data and each iteration has 30 meta-steps, as in the
# paper.
_KEPT = {'collect.buffer_capacity': 100_000, 'meta.num_meta_steps': 30}
_SIZES: dict[str, dict[str, Any]] = {
  'tiny': {},
  'quick': {**_KEPT, 'model.max_gradient_steps': 1000},
  # As many imagined transitions per meta-step as in the paper, 20 * 167 * 30.
  'full': {**_KEPT, 'model_rollouts.rollouts_per_task': 167},
}
_MOST_COLUMNS = 3


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  config = methods_lib.config('mbmpo', 'point', size, _SIZES[size])
  last = {'run.num_iterations': _ITERATIONS[size], 'run.eval_every': 5}
  config = config_lib.replaced(config, last)
  return [
    study.seeds('point', config, _SEEDS[size], key='50_iterations')
    for _ in methods
  ]


def _maps(found: study.Study) -> dict[int, state_space.Maps]:
  """Returns the maps of finished runs by seed."""
  (entry,) = found.groups
  return {
    run.config.seed: state_space.maps(
      found.root / run.name,
      run.config,
      low=_LOW,
      high=_HIGH,
      count=_COUNT[found.size],
    )
    for run, rows in zip(entry.group.runs, entry.rows, strict=True)
    if study.is_done(run, rows)
  }


def claims(found: study.Study) -> list[report.Claim]:
  text = (
    f'where the models disagree the policy adapts more, r >= {_STRONG} over the'
    ' states of the 2-D point'
  )
  values = [maps.correlation for maps in _maps(found).values()]
  if not values:
    return [report.undecided(text, 'runs are missing')]
  r = intervals.correlation(values)
  each = ', '.join(f'{value:.2f}' for value in values)
  return [
    report.Claim(
      text,
      report.verdict(r, _STRONG),
      f'r is {r.text()} seeds, each {each}',
      {'correlation': r, 'each': values, 'strong': _STRONG},
    )
  ]


def draw(found: study.Study):
  extent = (_LOW, _HIGH, _LOW, _HIGH)
  shown = dict(list(_maps(found).items())[:_MOST_COLUMNS])
  entries = [
    plot_paper.Map(f'seed {seed}', maps.deviation, extent, 'deviation', 0)
    for seed, maps in shown.items()
  ] + [
    plot_paper.Map(
      f'r = {maps.correlation:.2f}', maps.kl, extent, 'KL, nats', 1
    )
    for maps in shown.values()
  ]
  return plot_paper.maps(entries, x='$s_1$', y='$s_2$') if entries else None


def numbers(found: study.Study):
  return [
    {
      'seed': seed,
      'iteration': maps.iteration,
      'correlation': maps.correlation,
      'deviation': _short(maps.deviation),
      'kl': _short(maps.kl),
    }
    for seed, maps in _maps(found).items()
  ]


def _short(values: np.ndarray) -> list[list[float]]:
  """Rounds to four significant digits, more than the picture shows."""
  return [[float(f'{x:.4g}') for x in row] for row in values]


FIGURE = command.Figure(
  name='fig3',
  about='model disagreement and policy adaptation over states',
  methods=('mbmpo',),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=numbers,
  costs=costs.seconds,
)

if __name__ == '__main__':
  command.run(FIGURE)
