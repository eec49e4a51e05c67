"""Several runs in one picture: what they learned, and what goes on inside."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import layout_engine
from matplotlib import lines as lines_lib
from matplotlib import ticker
from matplotlib.backends import backend_agg

from mbmpo_jax.training.reporting import history
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import plot

_GREY = '#555555'
_LINE_STYLES = ('--', ':', '-.', (0, (1, 3)))
# A curve with more points than this needs no marks on them.
_MOST_MARKS = 40


_HOW_DRAWN = (
  'mean over runs; band: lowest to highest; thin: runs where others have no'
  ' value'
)
# Characters that fit beside each other below the panels.
_LEGEND_WIDTH = 120


class Curve(NamedTuple):
  """A metric of several runs, on steps common to all.

  Attributes:
    steps: real transitions [T].
    values: of each run [S, T], NaN before its first, after its last, and next
      to what was not finite.
  """

  steps: np.ndarray
  values: np.ndarray

  @property
  def mean(self) -> np.ndarray:
    """Over runs [T]; NaN where one has no value."""
    return self.values.mean(0)


def curve(runs: Sequence[Sequence[Mapping[str, float]]], name: str) -> Curve:
  """A metric of runs that may have other steps and lengths.

  Between its own steps a run is interpolated; iterations without evaluation
  are no gap in what an evaluation gives.

  Args:
    runs: of each, the rows of `metrics.jsonl`.
    name: of the metric.
  """
  if name.startswith('eval/'):
    runs = [metrics.evaluated(rows) for rows in runs]
  own = [(plot.column(r, 'env_steps'), plot.column(r, name)) for r in runs]
  steps = np.unique(np.concatenate([x for x, _ in own]))
  values = [
    np.interp(steps, x, y, left=np.nan, right=np.nan)
    if x.size
    else np.full(steps.shape, np.nan)
    for x, y in own
  ]
  return Curve(steps, np.stack(values))


def compare(
  groups: Sequence[history.Group],
  path: pathlib.Path,
  *,
  published: Mapping[str, float] | None = None,
  title: str = '',
) -> None:
  """Draws four panels over real transitions, a colour per group.

  Evaluation returns with published values; real against imagined returns; the
  models' validation loss; the policy's plasticity. A group is its mean with a
  band from the lowest to the highest run; where some of its runs have no value,
  the others are thin lines.

  Args:
    groups: runs, by setting.
    path: the file to replace, `.png`, `.pdf` or `.svg`.
    published: returns drawn as horizontal lines, by label.
    title: written above.

  Raises:
    UserError: if the file's ending is another, or it cannot be written.
  """
  spaced = layout_engine.ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
  figure = figure_lib.Figure(figsize=(10, 7.2), dpi=120, layout=spaced)
  backend_agg.FigureCanvasAgg(figure)
  (returns, both), (loss, plasticity) = figure.subplots(2, 2)
  colors = plot.colors(len(groups))
  for entry, color in zip(groups, colors, strict=True):
    runs = [run.rows for run in entry.runs]
    evaluation = curve(runs, 'eval/return_mean')
    _draw(returns, evaluation, color)
    _draw(both, curve(runs, 'real/return'), color)
    _draw(
      both, curve(runs, 'imagined/return_pre'), color, style='--', band=False
    )
    _draw(loss, curve(runs, 'model/val_loss'), color)
    _draw(plasticity, curve(runs, 'meta/plasticity'), color)
  handles = [
    lines_lib.Line2D([], [], color=color, lw=2, label=_name(entry))
    for entry, color in zip(groups, colors, strict=True)
  ]
  for index, (label, value) in enumerate((published or {}).items()):
    style: Any = _LINE_STYLES[index % len(_LINE_STYLES)]
    handles.append(
      returns.axhline(value, color=_GREY, ls=style, lw=1.3, label=label)
    )
  _limit(both, groups)
  _explain_styles(both)
  _label(returns, 'evaluation return', 'return per episode')
  _label(both, 'return as collected, and as imagined', 'return per episode')
  _label(loss, 'model error', 'validation loss')
  _label(plasticity, 'policy plasticity', 'KL by adaptation, nats')
  for axes in (loss, plasticity):
    _scale(axes)
  for axes in (loss, plasticity):
    axes.set_xlabel('real transitions')
  longest = max(len(str(handle.get_label())) for handle in handles)
  several = any(len(entry.runs) > 1 for entry in groups)
  figure.legend(
    handles=handles,
    loc='outside lower center',
    ncols=max(1, min(3, len(handles), _LEGEND_WIDTH // longest)),
    frameon=False,
    fontsize=9,
    title=_HOW_DRAWN if several else None,
    title_fontsize=9,
  )
  if title:
    figure.suptitle(title, x=0.01, ha='left', fontsize=11)
  plot.save(figure, path)


def _name(entry: history.Group) -> str:
  count = len(entry.runs)
  return f'{entry.label} ({count} runs)' if count > 1 else entry.label


def _draw(
  axes: axes_lib.Axes,
  curve: Curve,
  color: Any,
  *,
  style: str = '-',
  band: bool = True,
) -> None:
  steps, values, mean = curve.steps, curve.values, curve.mean
  marker = '.' if np.isfinite(mean).sum() <= _MOST_MARKS else ''
  axes.plot(steps, mean, color=color, ls=style, lw=1.8, marker=marker)
  if len(values) == 1:
    return
  if band:
    axes.fill_between(
      steps, values.min(0), values.max(0), color=color, alpha=0.18, lw=0
    )
  rest = np.where(np.isnan(mean), values, np.nan)
  axes.plot(steps, rest.T, color=color, ls=style, lw=0.8, alpha=0.7)


def _limit(axes: axes_lib.Axes, groups: Sequence[history.Group]) -> None:
  """The range follows what is real: imagined returns may run away."""
  rows = [row for entry in groups for run in entry.runs for row in run.rows]
  limits = plot.y_limits(
    plot.column(rows, 'real/return'), plot.column(rows, 'imagined/return_pre')
  )
  if limits is not None:
    axes.set_ylim(*limits)


def _explain_styles(axes: axes_lib.Axes) -> None:
  handles = [
    lines_lib.Line2D([], [], color=_GREY, ls=style, label=label)
    for style, label in (('-', 'real'), ('--', 'imagined, before adaptation'))
  ]
  axes.legend(handles=handles, frameon=False, fontsize=8, loc='best')


def _label(axes: axes_lib.Axes, title: str, unit: str) -> None:
  axes.set_title(title, loc='left', fontsize=10)
  axes.set_ylabel(unit)
  axes.xaxis.set_major_formatter(_counted())
  plot.tidy(axes)


def _scale(axes: axes_lib.Axes) -> None:
  """Logarithmic where all is positive and spans more than a decade."""
  drawn = np.concatenate(
    [np.asarray(line.get_ydata(), float) for line in axes.lines]
  )
  drawn = drawn[np.isfinite(drawn)]
  if not drawn.size or drawn.min() <= 0 or drawn.max() < 10 * drawn.min():
    return
  axes.set_yscale('log')
  if drawn.max() < 100 * drawn.min():
    # Too few powers of ten to read values from.
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(_counted())
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _counted() -> ticker.Formatter:
  return ticker.FuncFormatter(lambda value, _: pace.count(value))
