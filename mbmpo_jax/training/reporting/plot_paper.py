"""Pictures in the style of papers: panels of curves, maps of a plane.

A curve is the mean over seeds, with a band from the lowest to the highest seed.
A method has the same colour in all panels. The legend is below the panels, so
that it covers no curve.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import layout_engine
from matplotlib import lines as lines_lib
from matplotlib import ticker
from matplotlib.backends import backend_agg

from mbmpo_jax.training.reporting import pace
from mbmpo_jax.training.reporting import plot

_WIDTH, _HEIGHT = 3.3, 2.5
_STYLE: Any = {
  'font.size': 8.5,
  'axes.titlesize': 9.5,
  'axes.linewidth': 0.7,
  'legend.fontsize': 8.5,
  'pdf.fonttype': 42,  # Keeps text as text.
  'svg.fonttype': 'none',
}
_GREY = '#555555'
# A logarithmic axis whose ends have a ratio below this has more tick marks.
_FEW_DECADES = 100


class Series(NamedTuple):
  """The runs of a curve.

  Attributes:
    label: in the legend; equal labels in several panels are one entry.
    color: of the curve.
    steps: for each run, the steps of its evaluations, [T].
    values: for each run, the values at these steps, [T].
    style: of the line.
    each: whether every run is a separate line without a band.
  """

  label: str
  color: str
  steps: Sequence[np.ndarray]
  values: Sequence[np.ndarray]
  style: Any = '-'
  each: bool = False


class Level(NamedTuple):
  """A horizontal line, or a vertical one."""

  label: str
  value: float
  color: str = _GREY
  style: Any = '--'


class Panel(NamedTuple):
  """Curves with common axes.

  Attributes:
    title: the title.
    series: the curves.
    x: the label of the horizontal axis.
    y: the label of the vertical axis.
    log: whether the horizontal axis is logarithmic.
    levels: horizontal lines.
    marks: vertical lines.
  """

  title: str
  series: Sequence[Series]
  x: str = 'real transitions'
  y: str = 'return per episode'
  log: bool = False
  levels: Sequence[Level] = ()
  marks: Sequence[Level] = ()


def curves(
  panels: Sequence[Panel],
  *,
  title: str = '',
  columns: int = 3,
  legend: str = 'figure',
  share_y: bool = False,
) -> figure_lib.Figure:
  """Draws panels side by side, with legends below them.

  Args:
    panels: filled into rows of `columns`.
    title: a title above all panels; papers have a caption instead.
    columns: the largest number of panels in a row.
    legend: `figure` (one for all panels), `panels` (one for each) or `none`.
    share_y: whether all panels have the same vertical range.

  Returns:
    A figure for `plot.save`.
  """
  with paper():
    columns = _columns(len(panels), columns)
    figure, grid = _subplots(
      len(panels), columns, share_y=share_y, apart=legend == 'panels'
    )
    handles: dict[str, Any] = {}
    for index, (panel, axes) in enumerate(zip(panels, grid, strict=True)):
      for series in reversed(panel.series):
        _draw(axes, series)  # the first is on top
      for series in panel.series:
        handles.setdefault(
          series.label,
          lines_lib.Line2D([], [], color=series.color, ls=series.style, lw=1.8),
        )
      for level in panel.levels:
        line = axes.axhline(
          level.value, color=level.color, ls=level.style, lw=1.0, zorder=1
        )
        handles.setdefault(level.label, line)
      for mark in panel.marks:
        line = axes.axvline(
          mark.value, color=mark.color, ls=mark.style, lw=1.0, zorder=1
        )
        handles.setdefault(mark.label, line)
      _finish(axes, panel)
      if index % columns == 0:
        axes.set_ylabel(panel.y)
      if legend == 'panels' and handles:
        _legend(axes.figure, handles, len(handles))
        handles = {}
    if legend == 'figure' and handles:
      _legend(figure, handles, 2 * columns + 1)
    if title:
      figure.suptitle(title, x=0.01, ha='left', fontsize=10)
  return figure


class Map(NamedTuple):
  """Values over a rectangle.

  Attributes:
    title: the title.
    values: `[Y, X]`, from the lower left corner.
    extent: left, right, bottom, top.
    unit: the label of the colour scale.
    row: maps of one row have the same colour range.
    aspect: of the axes; `equal` if both have the same unit, else `auto`.
    zero: whether to draw a line where the values are 0.
  """

  title: str
  values: np.ndarray
  extent: tuple[float, float, float, float]
  unit: str
  row: int
  aspect: Any = 'equal'
  zero: bool = False


def maps(entries: Sequence[Map], *, x: str, y: str) -> figure_lib.Figure:
  """Draws maps in rows, each with a colour scale at the right.

  Args:
    entries: the maps in order; all rows have equally many.
    x: the label of the horizontal axes.
    y: the label of the vertical axes.
  """
  rows = sorted({entry.row for entry in entries})
  columns = len(entries) // len(rows)
  with paper():
    figure, grid = _subplots(len(entries), columns, size=(2.0, 1.9))
    for index, row in enumerate(rows):
      own = [entry for entry in entries if entry.row == row]
      shown = np.concatenate([entry.values.ravel() for entry in own])
      factor, power = _power(float(np.nanmax(np.abs(shown))))
      low, high = factor * np.nanmin(shown), factor * np.nanmax(shown)
      places = grid[index * columns : (index + 1) * columns]
      for place, (entry, axes) in enumerate(zip(own, places, strict=True)):
        image = axes.imshow(
          factor * entry.values,
          origin='lower',
          extent=entry.extent,
          vmin=low,
          vmax=high,
          cmap='viridis',
          interpolation='nearest',
          aspect=entry.aspect,
        )
        if entry.zero and np.min(entry.values) < 0 < np.max(entry.values):
          axes.contour(
            entry.values,
            levels=[0.0],
            extent=entry.extent,
            colors='white',
            linewidths=1.0,
          )
        axes.set_title(entry.title)
        if index == len(rows) - 1:
          axes.set_xlabel(x)
        if place == 0:
          axes.set_ylabel(y)
      bar = figure.colorbar(image, ax=list(places), shrink=0.9, pad=0.02)
      bar.set_label(own[0].unit + power)
      bar.outline.set_linewidth(0.5)
  return figure


@contextlib.contextmanager
def paper() -> Iterator[None]:
  """A context with the font and line sizes of a paper."""
  with matplotlib.rc_context(_STYLE):
    yield


def common(series: Series) -> tuple[np.ndarray, np.ndarray]:
  """Interpolates all runs to the union of their steps.

  Between its steps a run is linear; before the first and after the last it has
  no value.

  Args:
    series: a series with at least one run that has a value.

  Returns:
    Steps `[T]` and values `[S, T]`, NaN where a run has no value.
  """
  steps = np.unique(np.concatenate(list(series.steps)))
  values = [
    np.interp(steps, x, y, left=np.nan, right=np.nan)
    for x, y in zip(series.steps, series.values, strict=True)
    if x.size
  ]
  return steps, np.stack(values)


def _subplots(
  count: int,
  columns: int,
  size: tuple[float, float] = (_WIDTH, _HEIGHT),
  *,
  share_y: bool = False,
  apart: bool = False,
) -> tuple[figure_lib.Figure, list[axes_lib.Axes]]:
  rows = math.ceil(count / columns)
  columns = _columns(count, columns)
  spaced = layout_engine.ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
  figure = figure_lib.Figure(
    figsize=(size[0] * columns + 0.3, size[1] * rows + 0.4),
    dpi=200,
    layout=spaced,
  )
  backend_agg.FigureCanvasAgg(figure)
  if apart:
    # Each panel has a legend outside of it.
    parts = figure.subfigures(rows, columns, squeeze=False).flatten()
    return figure, [part.subplots() for part in parts[:count]]
  axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
  grid = axes.flatten()
  for rest in grid[count:]:
    rest.remove()
  return figure, list(grid[:count])


def _legend(figure: Any, handles: dict[str, Any], columns: int) -> None:
  """Draws the legend below a figure, or below a part of one."""
  figure.legend(
    list(handles.values()),
    list(handles),
    loc='outside lower center',
    ncols=min(len(handles), columns),
    frameon=False,
    handlelength=1.8,
    columnspacing=1.4,
  )


def _power(largest: float) -> tuple[float, str]:
  """Returns a power of ten that makes numbers readable, and its unit text."""
  power = math.floor(math.log10(largest)) if largest > 0 else 0
  if -2 < power < 3:
    return 1.0, ''
  return 10.0**-power, rf' / $10^{{{power}}}$'


def _columns(count: int, most: int) -> int:
  """Returns the number of panels in a row that fills the last row best."""
  return math.ceil(count / math.ceil(count / most))


def _draw(axes: axes_lib.Axes, series: Series) -> None:
  if not any(x.size for x in series.steps):
    return
  steps, values = common(series)
  look: dict[str, Any] = {'color': series.color, 'ls': series.style}
  mean = values.mean(0)
  # If a run has no value, the mean of the others would jump.
  if series.each or np.isnan(mean).all():
    for x, y in zip(series.steps, series.values, strict=True):
      axes.plot(x, y, lw=1.3, alpha=0.9, **look)
    return
  marker = '.' if np.isfinite(mean).sum() < 3 else ''
  axes.plot(steps, mean, lw=1.6, marker=marker, zorder=3, **look)
  if len(values) > 1:
    axes.fill_between(
      steps, values.min(0), values.max(0), color=series.color, alpha=0.18, lw=0
    )


def _finish(axes: axes_lib.Axes, panel: Panel) -> None:
  axes.set_title(panel.title)
  axes.set_xlabel(panel.x)
  # There may be no curve, or no positive x.
  log = panel.log and bool(np.isfinite(axes.dataLim.minposx))
  if log:
    axes.set_xscale('log')
  axes.xaxis.set_major_formatter(
    ticker.FuncFormatter(lambda value, _: pace.count(value))
  )
  if log:
    low, high = axes.get_xlim()
    if high < _FEW_DECADES * low:
      axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  plot.tidy(axes)
