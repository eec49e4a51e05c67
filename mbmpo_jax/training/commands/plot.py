r"""Draws learning curves of one or more runs.

  mbmpo plot runs/a runs/b --out=curves.png --line='paper at 100k=700'

A path is a run's folder, a folder of runs such as a sweep's, or a
metrics.jsonl. Runs whose configurations differ only in the seed (and in `run.`,
which does not affect results) are one curve: their mean, with a band from the
lowest to the highest run. --paper draws only the evaluations, in the style of
`experiments/figures/`: one panel per environment, and a fixed colour for each
method.
"""

import math
import pathlib
from collections.abc import Sequence

from absl import app
from absl import flags

from mbmpo_jax import errors
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.reporting import history
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import plot_paper
from mbmpo_jax.training.reporting import plot_runs

_OUT = flags.DEFINE_string(
  'out', 'learning_curves.png', 'File to draw to: .png, .pdf or .svg.'
)
_LINE = flags.DEFINE_multi_string(
  'line',
  [],
  "Published return to draw as a horizontal line, '<label>=<value>'; may be"
  ' given repeatedly.',
)
_TITLE = flags.DEFINE_string('title', '', 'Title of the picture.')
_PAPER = flags.DEFINE_boolean(
  'paper',
  False,
  'Whether to draw only the evaluations, in the style of a paper.',
)
_LOG = flags.DEFINE_boolean(
  'log', False, 'With --paper: whether the axis of transitions is logarithmic.'
)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    imports.define(flags.FLAGS)
    try:
      _, *paths = flags.FLAGS(list(argv))
    except flags.Error as error:
      raise errors.UserError(str(error)) from error
    imports.check(flags.FLAGS)
    return paths


def main(paths: list[str]) -> None:
  """Draws the curves and prints the file's path."""
  with training_flags.one_line_errors():
    imports.run()
    if not paths:
      raise errors.UserError(
        'no run is given: must be folders of runs, or metrics.jsonl files'
      )
    published = dict(_published(text) for text in _LINE.value)
    groups = history.group(history.find([pathlib.Path(p) for p in paths]))
    out = pathlib.Path(_OUT.value)
    if _PAPER.value:
      picture = plot_runs.paper(
        groups, published=published, title=_TITLE.value, log=_LOG.value
      )
      with plot_paper.paper():
        plot.save(picture, out)
    elif _LOG.value:
      raise errors.UserError('--log: must come with --paper')
    else:
      plot_runs.compare(groups, out, published=published, title=_TITLE.value)
  for entry in groups:
    print(f'{entry.label}: {", ".join(str(run.path) for run in entry.runs)}')
  print(out)


def _published(text: str) -> tuple[str, float]:
  label, _, value = text.rpartition('=')
  try:
    number = float(value)
  except ValueError:
    number = math.nan
  if not label or not math.isfinite(number):
    raise errors.UserError(
      f"--line={text}: must be '<label>=<value>', like 'paper at 100k=700'"
    )
  return label, number


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
