r"""Figure 7 of MB-MPO's paper: its hyperparameters.

  python experiments/figures/fig7.py --quick

The inner learning rate alpha, the number of models, and the number of
meta-steps per iteration, on HalfCheetah. All values of alpha and all seeds run
as one sweep, a single program. The other two hyperparameters change the
compiled program, so each of their values is a sweep over seeds. Claims:
adaptation, more models and more meta-steps increase the final return.
"""

from typing import Any

from experiments.figures import methods as methods_lib
from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_ALPHAS = (0.0, 1e-3, 5e-3, 1e-2)
_MODELS = {'tiny': (1, 5), 'quick': (1, 5, 10, 20), 'full': (1, 5, 10, 20)}
_STEPS = {'tiny': (1, 2), 'quick': (5, 15, 30, 60), 'full': (5, 15, 30, 60)}
_TASKS = 20
_ALPHA, _NUM_MODELS, _NUM_STEPS = 'alpha', 'models', 'meta_steps'
_TITLES = {
  _ALPHA: r'inner learning rate $\alpha$',
  _NUM_MODELS: 'models in the ensemble',
  _NUM_STEPS: 'meta-steps per iteration',
}
_QUICK = {
  'collect.episode_length': 100,
  'model_rollouts.horizon': 100,
  'model.max_epochs': 30,
}
_TRANSITIONS = {'quick': 12_000, 'full': 200_000}


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  env = 'point' if size == 'tiny' else 'half_cheetah'
  base: Any = methods_lib.config(
    'mbmpo', env, size, _QUICK if size == 'quick' else {}
  )
  if size in _TRANSITIONS:
    base = methods_lib.lasting(base, _TRANSITIONS[size])
  num_seeds = methods_lib.SEEDS[size]

  grid = grid_lib.Grid(base, {'meta.inner_lr': _ALPHAS}, num_seeds=num_seeds)
  looks = {
    setting.label: (f'{alpha:g}', color)
    for setting, alpha, color in zip(
      grid.settings, _ALPHAS, appearance.PALETTE, strict=False
    )
  }
  made = study.swept(_ALPHA, _ALPHA, grid, looks)
  shared = made[_ALPHAS.index(base.meta.inner_lr)]

  def seeds(panel: str, value: int, values: dict, color: str) -> study.Group:
    config = config_lib.replaced(base, values)
    if config == base:  # Already in the sweep of alpha.
      return study.Group(panel, f'{value}', f'{value}', color, shared.runs)
    looks = {'': (f'{value}', color)}
    grid = grid_lib.Grid(config, {}, num_seeds=num_seeds)
    (group,) = study.swept(panel, f'{panel}={value}', grid, looks)
    return group

  for value, color in zip(_MODELS[size], appearance.PALETTE, strict=False):
    values = {
      'model.num_models': value,
      'model_rollouts.tasks_per_model': _TASKS // value,
    }
    made.append(seeds(_NUM_MODELS, value, values, color))
  for value, color in zip(_STEPS[size], appearance.PALETTE, strict=False):
    values = {'meta.num_meta_steps': value}
    made.append(seeds(_NUM_STEPS, value, values, color))
  return made if methods else []


def claims(found: study.Study) -> list[report.Claim]:
  fewest = _STEPS[found.size][0]
  paper = _STEPS[found.size][-2 if found.size != 'tiny' else -1]
  pairs = (
    (_ALPHA, '0.001', '0', 'adaptation helps, alpha = 0.001 against 0'),
    (_NUM_MODELS, 5, 1, 'more models help'),
    (_NUM_STEPS, paper, fewest, 'more meta-steps help'),
  )
  made = []
  for panel, more, less, text in pairs:
    by_key = {entry.group.key: entry for entry in found.panels[panel]}
    if panel != _ALPHA:
      text = f'{text}, {more} against {less}'
    made.append(verdicts.better(by_key[str(more)], by_key[str(less)], text))
  return made


def draw(found: study.Study):
  return plot_paper.curves(
    [
      panel._replace(title=title)
      for panel, title in zip(
        shown.panels(found), _TITLES.values(), strict=True
      )
    ],
    legend='panels',
  )


FIGURE = command.Figure(
  name='fig7',
  about='inner learning rate, number of models, number of meta-steps',
  methods=('mbmpo',),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
)

if __name__ == '__main__':
  command.run(FIGURE)
