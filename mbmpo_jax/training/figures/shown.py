"""Panels and numbers of figures with learning curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.reporting import plot_paper


def panels(
  found: study.Study,
  *,
  log: bool = False,
  each: bool = False,
  time: bool = False,
) -> list[plot_paper.Panel]:
  """Returns a panel of learning curves for each panel of a study.

  Unfinished runs are drawn up to their last iteration.

  Args:
    found: the study.
    log: whether the horizontal axes are logarithmic.
    each: whether every run is a separate line.
    time: whether the horizontal axes show training time instead of real
      transitions.
  """
  return [
    plot_paper.Panel(
      title.replace('_', ' '),
      [series(entry, each=each, time=time) for entry in entries],
      x='minutes of learning' if time else 'real transitions',
      log=log,
    )
    for title, entries in found.panels.items()
  ]


def series(
  entry: study.Found, *, each: bool = False, time: bool = False
) -> plot_paper.Series:
  """Returns the curve of a group.

  Over time, the mean is taken over the k-th evaluations of all runs and drawn
  at their mean time, because the runs' evaluations have no common times.
  """
  made = [curves.evaluations(rows) for rows in entry.rows]
  steps = [curve.steps for curve in made]
  if time:
    made = [curve for curve in made if curve.steps.size]
    shortest = min((curve.steps.size for curve in made), default=0)
    made = [curves.Curve(*(x[:shortest] for x in curve)) for curve in made]
    if made:
      minutes = np.mean([curve.seconds for curve in made], 0) / 60
      steps = [minutes] * len(made)
  return plot_paper.Series(
    entry.group.label,
    entry.group.color,
    steps,
    [curve.returns for curve in made],
    each=each,
  )


def numbers(found: study.Study) -> dict[str, Any]:
  """Returns by panel and group every run's curve and final return."""
  return {
    title: {entry.group.key: _numbers(entry) for entry in entries}
    for title, entries in found.panels.items()
  }


def _numbers(entry: study.Found) -> dict[str, Any]:
  finals = entry.finals
  return {
    'runs': [run.name for run in entry.group.runs],
    'final_returns': finals,
    'final_return': intervals.mean(finals) if finals else None,
    'curves': [
      curve._asdict() for curve in map(curves.evaluations, entry.rows)
    ],
  }


def by_key(entries: Sequence[study.Found]) -> dict[str, study.Found]:
  """Returns the groups of a panel with at least one finished run, by key."""
  return {entry.group.key: entry for entry in entries if entry.finished}
