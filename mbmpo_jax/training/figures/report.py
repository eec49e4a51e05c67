"""The output of a figure: numbers, a picture in two formats, verdicts."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import figure as figure_lib

from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import plot_paper
from mbmpo_jax.training.storage import atomic

HELD, FAILED, UNDECIDED = 'held', 'did not hold', 'is undecided'


class Claim(NamedTuple):
  """A paper's claim and the verdict of this package's runs.

  Attributes:
    text: the claim, such as `MB-MPO needs 10 times less data than PPO`.
    verdict: `held`, `did not hold` or `is undecided`.
    reason: the numbers behind the verdict, with an interval and n.
    numbers: the same numbers for JSON.
  """

  text: str
  verdict: str
  reason: str
  numbers: Mapping[str, Any] = {}

  @property
  def sentence(self) -> str:
    """Formats `The claim that <text> held: <reason>.`."""
    return f'The claim that {self.text} {self.verdict}: {self.reason}.'


def verdict(
  estimate: intervals.Interval, least: float, *, strict: bool = False
) -> str:
  """Returns whether an estimate is at least `least`, given its interval.

  Args:
    estimate: the estimate with its interval.
    least: the threshold.
    strict: whether the estimate must be above `least`, as for a claim that
      something is higher. A tie is then undecided.

  Example:
    >>> verdict(intervals.Interval(12.0, 11.0, 13.0, 3), 10.0)
    'held'
    >>> verdict(intervals.Interval(12.0, 8.0, 16.0, 3), 10.0)
    'is undecided'
    >>> verdict(intervals.Interval(10.0, 10.0, 10.0, 3), 10.0, strict=True)
    'is undecided'
  """
  if estimate.low > least or (estimate.low == least and not strict):
    return HELD
  return FAILED if estimate.high < least else UNDECIDED


def undecided(text: str, reason: str) -> Claim:
  """Returns an undecided claim."""
  return Claim(text, UNDECIDED, reason)


def write(
  root: pathlib.Path,
  name: str,
  picture: figure_lib.Figure | None,
  claims: Sequence[Claim],
  numbers: Mapping[str, Any],
  table: Sequence[Sequence[str]] = (),
) -> list[pathlib.Path]:
  """Writes `<name>.json`, `<name>.png`, `<name>.pdf` and `<name>.txt`.

  It also writes `<name>.md` if there is a table.

  Args:
    root: the folder; created if it does not exist.
    name: the figure's name.
    picture: the picture, or `None`.
    claims: each becomes a sentence.
    numbers: the numbers in the picture; arrays and non-finite numbers are
      converted.
    table: header and rows.

  Returns:
    The files.

  Raises:
    WriteError: if a file cannot be written.
  """
  with atomic.writing(root):
    root.mkdir(parents=True, exist_ok=True)
  sentences = [claim.sentence for claim in claims]
  tree = {
    'figure': name,
    'claims': [
      {'sentence': claim.sentence, **claim._asdict()} for claim in claims
    ],
    **numbers,
  }
  text = json.dumps(plain(tree), indent=2, allow_nan=False) + '\n'
  files = [root / f'{name}.json', root / f'{name}.txt']
  atomic.write_output(files[0], text.encode())
  atomic.write_output(files[1], ('\n'.join(sentences) + '\n').encode())
  if table:
    files.append(root / f'{name}.md')
    atomic.write_output(files[-1], markdown(table).encode())
  if picture is not None:
    with plot_paper.paper():
      for ending in ('.png', '.pdf'):
        files.append(root / f'{name}{ending}')
        plot.save(picture, files[-1])
  return files


def markdown(table: Sequence[Sequence[str]]) -> str:
  """Formats a table, whose first row is the header.

  Example:
    >>> print(markdown([('a', 'b'), ('1', '2')]), end='')
    | a | b |
    | --- | --- |
    | 1 | 2 |
  """
  head, *rows = table
  lines = [head, ['---'] * len(head), *rows]
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def plain(tree: Any) -> Any:
  """Converts for JSON: arrays to lists, non-finite numbers to `null`."""
  if isinstance(tree, intervals.Interval):
    return plain(tree._asdict())
  if isinstance(tree, Mapping):
    return {str(key): plain(value) for key, value in tree.items()}
  if hasattr(tree, 'tolist'):  # Arrays and NumPy scalars.
    return plain(tree.tolist())
  if isinstance(tree, (list, tuple)):
    return [plain(value) for value in tree]
  if isinstance(tree, float) and not math.isfinite(tree):
    return None
  return tree
