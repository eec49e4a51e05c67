"""Learning curves: returns against real transitions."""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib.backends import backend_agg

from mbmpo_jax import errors
from mbmpo_jax.algorithms import base
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.storage import atomic

# Okabe and Ito's palette: distinguishable with colour blindness, readable on
# white.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
_FORMATS = ('.png', '.pdf', '.svg')


def learning_curve(
  rows: Sequence[Mapping[str, float]],
  path: pathlib.Path,
  declared: Mapping[str, base.Metric],
  *,
  title: str = '',
) -> None:
  """Draws the evaluation and the algorithm's own returns to a PNG.

  The evaluation is a line with a band of one standard deviation over episodes.
  The vertical range is set by real returns; imagined returns may lie outside.

  Args:
    rows: the rows of `metrics.jsonl`, NaN for missing values.
    path: the file to replace.
    declared: the algorithm's declared metrics; those with a `curve` are drawn.
    title: the title.
  """
  steps = column(rows, 'env_steps')
  mean = column(rows, 'eval/return_mean')
  std = column(rows, 'eval/return_std')
  curves = {name: metric for name, metric in declared.items() if metric.curve}

  figure, axes = _figure()
  first, *others = colors(1 + len(curves))
  for (name, metric), color in zip(curves.items(), others, strict=True):
    style = '--' if metric.imagined else '-'
    y = column(rows, name)
    _line(axes, steps, y, metric.curve, color, 0.9, style=style)
  _line(axes, steps, mean, 'evaluation, mean and std', first, 2.0)
  shown = np.isfinite(mean)
  low, high = (mean - std)[shown], (mean + std)[shown]
  axes.fill_between(steps[shown], low, high, color=first, alpha=0.18, lw=0)

  limits = y_limits(
    np.concatenate([low, high, columns(rows, curves, imagined=False)]),
    columns(rows, curves, imagined=True),
  )
  if limits is not None:
    axes.set_ylim(*limits)
  _finish(figure, axes, path, title)


def sweep_curves(
  settings: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
  path: pathlib.Path,
  *,
  title: str = '',
) -> None:
  """Draws every setting's evaluations to a PNG: mean and range over its runs.

  The range is a band from the lowest to the highest run. A setting has no point
  where a run's return is not finite.

  Args:
    settings: by label, the rows of each run's `metrics.jsonl`.
    path: the file to replace.
    title: the title.
  """
  figure, axes = _figure()
  shades = colors(len(settings))
  for (label, runs), color in zip(settings.items(), shades, strict=True):
    evaluated = [metrics.evaluated(rows) for rows in runs]
    # Runs have equally many rows, unless a crash lost the last row of some.
    length = min(len(rows) for rows in evaluated)
    evaluated = [rows[:length] for rows in evaluated]
    steps = column(evaluated[0], 'env_steps')
    returns = np.stack([column(r, 'eval/return_mean') for r in evaluated])
    shown = np.isfinite(returns).all(0)
    low, high = returns.min(0)[shown], returns.max(0)[shown]
    _line(axes, steps, returns.mean(0), label or 'mean', color, 2.0)
    axes.fill_between(steps[shown], low, high, color=color, alpha=0.18, lw=0)
  _finish(figure, axes, path, f'{title}: evaluations, mean and min to max')


def _figure() -> tuple[figure_lib.Figure, axes_lib.Axes]:
  figure = figure_lib.Figure(figsize=(7, 4.2), dpi=120, layout='constrained')
  backend_agg.FigureCanvasAgg(figure)
  return figure, figure.add_subplot()


def _finish(
  figure: figure_lib.Figure,
  axes: axes_lib.Axes,
  path: pathlib.Path,
  title: str,
) -> None:
  """Finishes axes of learning curves and saves the file."""
  axes.set_xlabel('real transitions')
  axes.set_ylabel('return per episode')
  axes.set_title(title, loc='left', fontsize=10)
  tidy(axes)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(frameon=False, fontsize=8, loc='best')
  save(figure, path)


def colors(count: int) -> Sequence[Any]:
  """Returns distinct colours, or shades if there are too many."""
  if count <= len(_COLORS):
    return _COLORS[:count]
  return list(matplotlib.colormaps['viridis'](np.linspace(0, 0.9, count)))


def tidy(axes: axes_lib.Axes) -> None:
  """Draws a light grid, and no box around it."""
  axes.grid(alpha=0.25)
  axes.spines[['top', 'right']].set_visible(False)


def save(figure: figure_lib.Figure, path: pathlib.Path) -> None:
  """Replaces a picture atomically.

  Raises:
    UserError: if the file extension is not .png, .pdf or .svg.
    WriteError: if it cannot be written.
  """
  if path.suffix not in _FORMATS:
    raise errors.UserError(f'{path}: must end in {", ".join(_FORMATS)}')
  image = io.BytesIO()
  figure.savefig(image, format=path.suffix[1:])
  atomic.write_output(path, image.getvalue())


def column(rows: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
  """Returns a metric of every row, [T]; NaN in rows without it."""
  values = [row.get(name, np.nan) for row in rows]
  return np.asarray(values, dtype=float)


def columns(
  rows: Sequence[Mapping[str, float]],
  declared: Mapping[str, base.Metric],
  *,
  imagined: bool,
) -> np.ndarray:
  """Returns all values [M] of the imagined metrics, or of the others."""
  chosen = [name for name, m in declared.items() if m.imagined == imagined]
  return np.concatenate([np.zeros(0), *(column(rows, name) for name in chosen)])


def _line(
  axes: axes_lib.Axes,
  x: np.ndarray,
  y: np.ndarray,
  label: str,
  color: Any,
  width: float,
  *,
  style: str = '-',
) -> None:
  shown = np.isfinite(y)
  if shown.any():
    # A single point would be invisible as a line.
    marker = 'o' if shown.sum() < 3 else ''
    axes.plot(
      x[shown],
      y[shown],
      label=label,
      color=color,
      lw=width,
      ls=style,
      marker=marker,
    )


def y_limits(
  trusted: np.ndarray, imagined: np.ndarray
) -> tuple[float, float] | None:
  """Returns a range with all real values and up to half a span of imagined."""
  trusted = trusted[np.isfinite(trusted)]
  if not trusted.size:
    return None
  low, high = trusted.min(), trusted.max()
  span = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
  imagined = imagined[np.isfinite(imagined)]
  near = np.clip(imagined, low - 0.5 * span, high + 0.5 * span)
  low, high = min([low, *near]), max([high, *near])
  margin = 0.05 * (high - low) + 1e-9
  return float(low - margin), float(high + margin)
