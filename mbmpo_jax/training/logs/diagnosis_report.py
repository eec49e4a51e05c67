"""Prints and writes open-loop errors: a table, numbers and a picture."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from mbmpo_jax.training.logs import diagnosis
from mbmpo_jax.training.logs import picture
from mbmpo_jax.training.storage import atomic

JSON, PICTURE = 'open_loop.json', 'open_loop.png'
# Steps ahead, and the most dimensions, in the table.
_SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
_LINES = 40


def report(
  found: diagnosis.Diagnosis, root: pathlib.Path, say: Callable[[str], None]
) -> None:
  """Prints the table, and writes numbers and picture into a folder.

  Raises:
    WriteError: if a file cannot be written.
  """
  for line in table(found):
    say(line)
  atomic.write_output(root / JSON, (numbers(found) + '\n').encode())
  picture.open_loop(found, root / PICTURE)
  say(f'numbers and picture are in {root / JSON} and {root / PICTURE}')


def table(found: diagnosis.Diagnosis) -> list[str]:
  """Returns one line for each dimension; of many, only the worst."""
  total = len(found.errors.stays)
  shown = [step for step in _SHOWN if step < total] + [total]
  width = max(map(len, found.columns))
  lines = [
    f'open-loop error on {found.source}, {found.windows} stretches of {total}'
    " steps, in units of each dimension's spread, after",
    f'{"steps":>{width}}'
    + ''.join(f'{step:>9}' for step in shown)
    + f'{"stays":>9}{"mean":>9}  beats both for',
  ]
  order = np.arange(len(found.columns))
  if len(order) > _LINES:
    worst = np.argsort(-found.model[-1], kind='stable')[:_LINES]
    order = np.sort(worst)
  for index in order:
    cells = [found.model[step - 1, index] for step in shown]
    cells += [found.errors.stays[-1, index], found.errors.mean[-1, index]]
    steps = found.better[index]
    said = 'constant' if found.steady[index] else f'{steps} steps'
    lines.append(
      f'{found.columns[index]:>{width}}'
      + ''.join(f'{_cell(x):>9}' for x in cells)
      + f'  {said}'
    )
  if len(order) < len(found.columns):
    lines.append(f'the {_LINES} worst of {len(found.columns)} dimensions')
  return lines


def _cell(value: float) -> str:
  return '-' if np.isnan(value) else f'{value:.3g}'


def numbers(found: diagnosis.Diagnosis) -> str:
  """Returns everything as JSON; non-finite numbers are null."""

  def rounded(x: Any) -> Any:
    if x.ndim:
      return [rounded(row) for row in x]
    return float(f'{x:.6g}') if np.isfinite(x) else None

  tree = dict(
    source=found.source,
    windows=found.windows,
    columns=list(found.columns),
    spread=rounded(found.spread),
    constant=found.steady.tolist(),
    beats_both_for_steps=found.better.tolist(),
    steps=list(range(1, len(found.errors.stays) + 1)),
    model=rounded(found.model),
    members=rounded(found.errors.model),
    stays=rounded(found.errors.stays),
    mean=rounded(found.errors.mean),
  )
  return json.dumps(tree)
