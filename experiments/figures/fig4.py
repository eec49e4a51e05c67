r"""Figure 4 of MB-MPO's paper: biased and noisy models.

  python experiments/figures/fig4.py --quick

Noise N(b, 0.1^2) is added to every prediction, where b is drawn from [0, b_max]
in every iteration and for every model. The environment is HalfCheetah with
episodes of 100 steps. Claims: MB-MPO has a higher final return than ME-TRPO,
and still runs forward with b_max of 0.5 and 1.
"""

from experiments.figures import methods as methods_lib
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper

_OURS, _OTHER = 'mbmpo', 'me_trpo'
_BIASES = {
  'tiny': (0.0, 1.0),
  'quick': (0.0, 0.1, 0.5, 1.0),
  'full': (0.0, 0.1, 0.5, 1.0),
}
_STRONG = (0.5, 1.0)
_NOISE = 0.1
_HORIZON = 100
_TRANSITIONS = {'quick': 12_000, 'full': 200_000}
# With so few transitions, the preset's 15 steps hardly learn to run (see figure
# 7).
_QUICK_STEPS = {_OURS: 'meta.num_meta_steps', _OTHER: 'improve.num_steps'}
_NUM_QUICK_STEPS = 30


def _panel(bias: float) -> str:
  return f'bias_max={bias:g}'


def groups(size: str, methods: tuple[str, ...]) -> list[study.Group]:
  env = 'point' if size == 'tiny' else 'half_cheetah'
  horizon = 30 if size == 'tiny' else _HORIZON
  made = []
  for bias in _BIASES[size]:
    for method in methods:
      values = {
        'model.bias_max': bias,
        'model.noise_std': _NOISE,
        'collect.episode_length': horizon,
        'model_rollouts.horizon': horizon,
      }
      if size == 'quick':
        values[_QUICK_STEPS[method]] = _NUM_QUICK_STEPS
      config = methods_lib.config(method, env, size, values)
      if size in _TRANSITIONS:
        config = methods_lib.lasting(config, _TRANSITIONS[size])
      made.append(study.seeds(_panel(bias), config, methods_lib.SEEDS[size]))
  return made


def claims(found: study.Study) -> list[report.Claim]:
  higher, forward = [], []
  for panel, entries in found.panels.items():
    by_key = {entry.group.key: entry for entry in entries}
    if _OURS not in by_key:
      continue
    ours = by_key[_OURS]
    if _OTHER in by_key:
      text = f'MB-MPO ends higher than ME-TRPO with {panel}'
      higher.append(verdicts.better(ours, by_key[_OTHER], text))
    if panel in map(_panel, _STRONG):
      text = f'MB-MPO still runs forward with {panel}'
      forward.append(verdicts.positive(ours, text))
  text = 'MB-MPO is more robust than ME-TRPO to biased and noisy models'
  return [verdicts.all_of(text, higher), *higher, *forward]


def draw(found: study.Study):
  panels = shown.panels(found)
  titles = [f'$b_{{max}}$ = {bias:g}' for bias in _BIASES[found.size]]
  return plot_paper.curves(
    [p._replace(title=t) for p, t in zip(panels, titles, strict=True)],
    columns=4,
  )


FIGURE = command.Figure(
  name='fig4',
  about='MB-MPO and ME-TRPO with biased and noisy models',
  methods=(_OURS, _OTHER),
  groups=groups,
  claims=claims,
  draw=draw,
  numbers=shown.numbers,
  costs=costs.seconds,
)

if __name__ == '__main__':
  command.run(FIGURE)
