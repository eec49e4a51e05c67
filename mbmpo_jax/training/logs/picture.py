"""Pictures of runs that learn from a log."""

import math
import pathlib

import numpy as np
from matplotlib import figure as figure_lib
from matplotlib.backends import backend_agg

from mbmpo_jax.training import run as run_lib
from mbmpo_jax.training.logs import diagnosis
from mbmpo_jax.training.reporting import plot

_PANELS, _ACROSS = 12, 4


def learning_curve(run: run_lib.Run, name: str) -> None:
  """Draws imagined returns over iterations, as there are no real transitions.

  Args:
    run: the run.
    name: the log's name, for the title.
  """
  rows = run.rows()
  figure = _figure(7, 4.2)
  axes = figure.add_subplot()
  number, mean, std = (
    plot.column(rows, x)
    for x in ('iteration', 'eval/return_mean', 'eval/return_std')
  )
  shown = np.isfinite(mean)
  number, mean, std = number[shown] + 1, mean[shown], std[shown]
  (color,) = plot.colors(1)
  axes.plot(number, mean, color=color, lw=2, marker='o', ls='--')
  axes.fill_between(
    number, mean - std, mean + std, color=color, alpha=0.18, lw=0
  )
  axes.set_xlabel('iteration')
  axes.set_ylabel('return per episode, imagined')
  title = f'{run.config.algorithm} from {pathlib.Path(name).name}'
  axes.set_title(title, loc='left', fontsize=10)
  plot.tidy(axes)
  plot.save(figure, run.folder.curve)


def open_loop(found: diagnosis.Diagnosis, path: pathlib.Path) -> None:
  """Draws the open-loop error, with one panel per dimension.

  Of many dimensions, those with the largest error at the last step are drawn.
  Constant dimensions have no panel.

  Args:
    found: the errors.
    path: the file to replace.

  Raises:
    WriteError: if it cannot be written.
  """
  varying = np.flatnonzero(~found.steady)
  worst = np.argsort(-found.model[-1, varying], kind='stable')[:_PANELS]
  chosen = np.sort(varying[worst])
  across = max(1, min(_ACROSS, len(chosen)))
  down = max(1, math.ceil(len(chosen) / across))
  figure = _figure(3.2 * across, 2.4 * down + 0.6)
  panels = figure.subplots(down, across, squeeze=False, sharex=True)
  steps = np.arange(1, len(found.errors.stays) + 1)
  model, stays, mean = plot.colors(3)
  for axes in panels.flat:
    axes.set_visible(False)
  for axes, index in zip(panels.flat, chosen, strict=False):
    axes.set_visible(True)
    own = found.errors.model[:, :, index]
    axes.fill_between(
      steps, own.min(0), own.max(0), color=model, alpha=0.18, lw=0
    )
    for values, label, color, style in (
      (found.model[:, index], 'models', model, '-'),
      (found.errors.stays[:, index], 'the state stays', stays, '--'),
      (found.errors.mean[:, index], 'mean of the data', mean, ':'),
    ):
      axes.plot(steps, values, style, label=label, color=color, lw=1.6)
    axes.set_title(found.columns[index], loc='left', fontsize=9)
    axes.set_ylim(bottom=0)
    plot.tidy(axes)
  for axes in panels[-1]:
    axes.set_xlabel('steps ahead', fontsize=8)
  if len(chosen):
    panels[0, 0].legend(frameon=False, fontsize=7)
  figure.suptitle(
    f'open-loop error on {found.source}, in units of the spread',
    x=0.01,
    ha='left',
    fontsize=10,
  )
  plot.save(figure, path)


def _figure(width: float, height: float) -> figure_lib.Figure:
  figure = figure_lib.Figure(
    figsize=(width, height), dpi=120, layout='constrained'
  )
  backend_agg.FigureCanvasAgg(figure)
  return figure
