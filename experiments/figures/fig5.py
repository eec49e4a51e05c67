r"""Figure 5 of MB-MPO's paper: with and without adaptation, long episodes.

  python experiments/figures/fig5.py --quick

HalfCheetah with episodes of 1,000 steps (500 with --quick) and three seeds,
each shown as a curve. Claims: with inner learning rate alpha = 0.001 MB-MPO has
a higher final return than with alpha = 0, where learning is unstable and
returns drop again during training.
"""

from experiments.figures import methods as methods_lib
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_ALPHAS = (1e-3, 0.0)
# Lengths of real and imagined episodes; the authors imagine half an episode.
_SIZES = {
  'quick': {
    'collect.episode_length': 500,
    'model_rollouts.horizon': 250,
    'model_rollouts.rollouts_per_task': 8,
  },
  'full': {
    'collect.episode_length': 1000,
    'model_rollouts.horizon': 500,
  },
}
_TRANSITIONS = {'quick': 60_000, 'full': 1_000_000}


def _key(alpha: float) -> str:
  return f'alpha={alpha:g}'


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  env = 'point' if size == 'tiny' else 'half_cheetah'
  made = []
  for index, alpha in enumerate(_ALPHAS):
    values = {'meta.inner_lr': alpha, **_SIZES.get(size, {})}
    config = methods_lib.config('mbmpo', env, size, values)
    if size in _TRANSITIONS:
      config = methods_lib.lasting(config, _TRANSITIONS[size])
    made.append(
      study.seeds(
        env,
        config,
        methods_lib.SEEDS[size],
        key=_key(alpha),
        label=f'MB-MPO, alpha = {alpha:g}',
        color=appearance.PALETTE[index],
      )
    )
  return made if methods else []


def claims(found: study.Study) -> list[report.Claim]:
  adaptive, fixed = found.groups
  return [
    verdicts.better(
      adaptive, fixed, 'MB-MPO ends higher with adaptation than without'
    ),
    verdicts.steadier(adaptive, fixed),
  ]


def draw(found: study.Study):
  (panel,) = shown.panels(found, each=True)
  return plot_paper.curves(
    [
      panel._replace(
        title=series.label.replace('alpha', r'$\alpha$'), series=[series]
      )
      for series in panel.series
    ],
    legend='none',
    share_y=True,
  )


FIGURE = command.Figure(
  name='fig5',
  about='MB-MPO with and without adaptation, in long episodes',
  methods=('mbmpo',),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
)

if __name__ == '__main__':
  command.run(FIGURE)
