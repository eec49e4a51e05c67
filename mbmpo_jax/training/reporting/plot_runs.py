"""Compares several runs in one picture: returns and other metrics."""

import itertools
import math
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

from mbmpo_jax import algorithms
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.algorithms import base
from mbmpo_jax.training.reporting import history
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import plot_paper

_EVALUATION = 'eval/return_mean'
_PER_EPISODE = 'return per episode'
_GREY = '#555555'
_LINE_STYLES: tuple[Any, ...] = ('--', ':', '-.', (0, (1, 3)))
# Curves with more points than this have no markers.
_MOST_MARKS = 40


_HOW_DRAWN = (
  'mean over runs; band: lowest to highest; thin: runs where others have no'
  ' value'
)
# Characters that fit in one line below the panels.
_LEGEND_WIDTH = 120


class Curve(NamedTuple):
  """A metric of several runs, on common steps.

  Attributes:
    steps: real transitions, [T].
    values: [S, T] for S runs; NaN before a run's first and after its last
      value, and beside non-finite values.
  """

  steps: np.ndarray
  values: np.ndarray

  @property
  def mean(self) -> np.ndarray:
    """The mean over runs, [T]; NaN where a run has no value."""
    return self.values.mean(0)


def curve(runs: Sequence[Sequence[Mapping[str, float]]], name: str) -> Curve:
  """Returns a metric of runs that may have different steps and lengths.

  A run is interpolated between its steps. Iterations without an evaluation do
  not interrupt the curve of an evaluation metric.

  Args:
    runs: for each run, the rows of `metrics.jsonl`.
    name: the name of the metric.
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


class _Panel(NamedTuple):
  """Metrics in one panel, distinguished by line style."""

  title: str
  unit: str
  metrics: Mapping[str, base.Metric]


def compare(
  groups: Sequence[history.Group],
  path: pathlib.Path,
  *,
  published: Mapping[str, float] | None = None,
  title: str = '',
) -> None:
  """Draws panels over real transitions, with one colour per group.

  The panels are: evaluation returns with published values; the returns that the
  algorithms report themselves; and one panel for each `Metric.panel`. A group
  is its mean with a band from the lowest to the highest run. Where some of its
  runs have no value, the others are thin lines.

  Args:
    groups: runs by setting.
    path: the file to replace, `.png`, `.pdf` or `.svg`.
    published: returns drawn as horizontal lines, by label.
    title: the title.

  Raises:
    UserError: if the file has another extension, or cannot be written.
  """
  panels = _panels(groups)
  num_rows = math.ceil(len(panels) / 2)
  spaced = layout_engine.ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
  size = (10, 3.2 * num_rows + 0.8)
  figure = figure_lib.Figure(figsize=size, dpi=120, layout=spaced)
  backend_agg.FigureCanvasAgg(figure)
  grid = figure.subplots(num_rows, 2, squeeze=False).flatten()
  for axes in grid[len(panels) :]:
    axes.remove()
  colors = _colors(groups)
  for panel, axes in zip(panels, grid, strict=False):
    _draw_panel(axes, panel, groups, colors)
  for axes in grid[max(0, len(panels) - 2) : len(panels)]:
    axes.set_xlabel('real transitions')
  handles = [
    lines_lib.Line2D([], [], color=color, lw=2, label=_name(entry))
    for entry, color in zip(groups, colors, strict=True)
  ]
  for index, (label, value) in enumerate((published or {}).items()):
    style = _LINE_STYLES[index % len(_LINE_STYLES)]
    handles.append(
      grid[0].axhline(value, color=_GREY, ls=style, lw=1.3, label=label)
    )
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


def paper(
  groups: Sequence[history.Group],
  *,
  published: Mapping[str, float] | None = None,
  title: str = '',
  log: bool = False,
) -> figure_lib.Figure:
  """Draws evaluations as papers do, with one panel per environment.

  Args:
    groups: runs by setting.
    published: returns drawn as horizontal lines, by label.
    title: the title.
    log: whether the axes of transitions are logarithmic.

  Returns:
    A figure for `plot.save`.
  """
  panels: dict[str, list[plot_paper.Series]] = {}
  for entry, color in zip(groups, _colors(groups), strict=True):
    runs = [metrics.evaluated(run.rows) for run in entry.runs]
    series = plot_paper.Series(
      _method(groups, entry),
      color,
      [plot.column(rows, 'env_steps') for rows in runs],
      [plot.column(rows, _EVALUATION) for rows in runs],
    )
    name = str((entry.runs[0].fields or {}).get('env.name', ''))
    panels.setdefault(name.replace('_', ' '), []).append(series)
  levels = [
    plot_paper.Level(label, value, style=_LINE_STYLES[i % len(_LINE_STYLES)])
    for i, (label, value) in enumerate((published or {}).items())
  ]
  return plot_paper.curves(
    [
      plot_paper.Panel(name, series, log=log, levels=levels)
      for name, series in panels.items()
    ],
    title=title,
  )


def _method(groups: Sequence[history.Group], entry: history.Group) -> str:
  """Returns a group's label: its algorithm, if that identifies the group."""
  if _by_algorithm(groups):
    return appearance.of(str(entry.runs[0].algorithm)).label
  return entry.label


def _colors(groups: Sequence[history.Group]) -> Sequence[Any]:
  """Returns the algorithms' colours, unless several groups share one."""
  if not _by_algorithm(groups):
    return plot.colors(len(groups))
  return [appearance.of(str(g.runs[0].algorithm)).color for g in groups]


def _by_algorithm(groups: Sequence[history.Group]) -> bool:
  """Whether environment and algorithm identify the groups."""
  seen = [
    ((run.fields or {}).get('env.name'), run.algorithm)
    for run in (entry.runs[0] for entry in groups)
  ]
  return len(set(seen)) == len(seen) and all(name for _, name in seen)


def _panels(groups: Sequence[history.Group]) -> list[_Panel]:
  """Returns the panels of the evaluation, other returns and other metrics."""
  declared: dict[str, base.Metric] = {}
  for name in dict.fromkeys(entry.runs[0].algorithm for entry in groups):
    if name is not None:
      declared = {**algorithms.metrics(name), **declared}
  evaluation = {_EVALUATION: base.Metric('')}
  panels = [_Panel('evaluation return', _PER_EPISODE, evaluation)]
  curves = {name: metric for name, metric in declared.items() if metric.curve}
  if curves:
    label, *others = (metric.curve for metric in curves.values())
    label = 'returns while learning' if others else label
    panels.append(_Panel(label, _PER_EPISODE, curves))
  titles = dict.fromkeys(m.panel for m in declared.values() if m.panel)
  for title in titles:
    own = {name: m for name, m in declared.items() if m.panel == title}
    panels.append(_Panel(title, ', '.join(own), own))
  return panels


def _draw_panel(
  axes: axes_lib.Axes,
  panel: _Panel,
  groups: Sequence[history.Group],
  colors: Sequence[Any],
) -> None:
  metrics = panel.metrics
  others = itertools.cycle(_LINE_STYLES)
  first = next(iter(metrics))
  styles = {name: '-' if name == first else next(others) for name in metrics}
  for entry, color in zip(groups, colors, strict=True):
    for name, metric in metrics.items():
      drawn = curve([run.rows for run in entry.runs], name)
      band = not metric.imagined
      _draw(axes, drawn, color, style=styles[name], band=band)
  if len(metrics) > 1:
    handles = [
      lines_lib.Line2D(
        [], [], color=_GREY, ls=styles[name], label=metric.curve or name
      )
      for name, metric in metrics.items()
    ]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc='best')
  if any(metric.imagined for metric in metrics.values()):
    _limit(axes, metrics, groups)
  axes.set_title(panel.title, loc='left', fontsize=10)
  axes.set_ylabel(panel.unit)
  axes.xaxis.set_major_formatter(_counted())
  plot.tidy(axes)
  if any(metric.log for metric in metrics.values()):
    _scale(axes)


def _name(entry: history.Group) -> str:
  count = len(entry.runs)
  return f'{entry.label} ({count} runs)' if count > 1 else entry.label


def _draw(
  axes: axes_lib.Axes,
  curve: Curve,
  color: Any,
  *,
  style: Any = '-',
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


def _limit(
  axes: axes_lib.Axes,
  metrics: Mapping[str, base.Metric],
  groups: Sequence[history.Group],
) -> None:
  """Sets the range by real returns, because imagined ones may diverge."""
  rows = [row for entry in groups for run in entry.runs for row in run.rows]
  limits = plot.y_limits(
    plot.columns(rows, metrics, imagined=False),
    plot.columns(rows, metrics, imagined=True),
  )
  if limits is not None:
    axes.set_ylim(*limits)


def _scale(axes: axes_lib.Axes) -> None:
  """Sets a logarithmic scale if all values are positive and span a decade."""
  drawn = np.concatenate(
    [np.asarray(line.get_ydata(), float) for line in axes.lines]
  )
  drawn = drawn[np.isfinite(drawn)]
  if not drawn.size or drawn.min() <= 0 or drawn.max() < 10 * drawn.min():
    return
  axes.set_yscale('log')
  if drawn.max() < 100 * drawn.min():
    # Powers of ten alone would be too few ticks.
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(_counted())
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _counted() -> ticker.Formatter:
  return ticker.FuncFormatter(lambda value, _: pace.count(value))
