"""Claims about the transitions and the time needed to reach a return.

A run that never reaches the return counts with all its transitions or all its
time, so that a ratio becomes a bound. Otherwise the claims are judged as in
`verdicts`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import pace


class Cost(NamedTuple):
  """The cost of reaching a return.

  Attributes:
    spent: for each run, transitions or seconds until it reaches the return; all
      of the run if it never does.
    num_reached: number of runs that reach it.
  """

  spent: list[float]
  num_reached: int

  @property
  def censored(self) -> bool:
    """Whether some run never reaches the return."""
    return self.num_reached < len(self.spent)


def cost(
  entries: Sequence[curves.Curve], targets: Sequence[float], of: str = 'steps'
) -> Cost:
  """Returns the cost of reaching returns.

  Args:
    entries: one curve per run.
    targets: one return per run.
    of: `steps` or `seconds`.
  """
  spent, reached = [], 0
  for curve, target in zip(entries, targets, strict=True):
    needed = curves.reached(curve, target, of=of)
    reached += needed is not None
    budget = float(getattr(curve, of)[-1])
    spent.append(budget if needed is None else max(needed, 1e-9))
  return Cost(spent, reached)


def typical(
  values: Sequence[float], text: Callable[[float], str] = pace.count
) -> str:
  """Formats the geometric mean of `values` with `text`."""
  logs = [math.log(value) for value in values]
  return text(math.exp(sum(logs) / len(logs)))


def fewer_samples(
  ours: study.Found, other: study.Found, factor: float
) -> report.Claim:
  """Claims that `other` needs `factor` times the transitions for our return.

  The target is the final return of each of our runs. Runs of `other` are paired
  with these targets in order, so that the interval includes the spread of our
  returns. A run that never reaches its target counts with all its transitions,
  so the ratio is a lower bound: the claim may then hold, but not fail.

  Args:
    ours: the runs that should need fewer transitions.
    other: the runs to compare with.
    factor: the claimed ratio.
  """
  name = f'{ours.group.label} needs {factor:g} times fewer samples than'
  text = f'{name} {other.group.label} in {ours.group.panel}'
  if ours.lacks or other.lacks:
    return verdicts.missing(text, ours, other)
  finals = ours.finals
  target = sum(finals) / len(finals)
  own = cost(ours.curves, finals)
  theirs = cost(other.curves, _in_turn(finals, len(other.curves)))
  ratio = intervals.ratio(theirs.spent, own.spent)
  verdict = report.verdict(ratio, factor)
  if theirs.censored and verdict == report.FAILED:
    verdict = report.UNDECIDED
  at_least = 'at least ' if theirs.censored else ''
  reason = (
    f'{ours.group.label} ends with {target:.4g} after {typical(own.spent)}'
    f' transitions; {_how_many(theirs, other, pace.count)}; the ratio is'
    f' {at_least}{ratio.text()}'
  )
  budget = max(float(curve.steps[-1]) for curve in other.curves)
  most = len(own.spent) * budget / sum(own.spent)
  if theirs.censored and most < factor:
    reason += f'; as long as they are, these runs can show {most:.3g} at most'
  numbers: dict[str, Any] = {
    'panel': ours.group.panel,
    'method': other.group.key,
    'target': target,
    'ratio': ratio,
    'reached': theirs.num_reached,
    'ours': own.spent,
    'theirs': theirs.spent,
    'factor': factor,
  }
  return report.Claim(text, verdict, reason, numbers)


def sooner(ours: study.Found, other: study.Found) -> report.Claim:
  """Claims that ours needs fewer transitions for the lower final return.

  The target is the lower of the two final returns. Runs that never reach it
  count with all their transitions.

  Args:
    ours: runs.
    other: the runs to compare with.
  """
  text = (
    f'{ours.group.label} learns faster than {other.group.label} in'
    f' {ours.group.panel}'
  )
  if ours.lacks or other.lacks:
    return verdicts.missing(text, ours, other)
  target = min(sum(x.finals) / len(x.finals) for x in (ours, other))
  own, theirs = (
    cost(x.curves, [target] * len(x.curves)) for x in (ours, other)
  )
  ratio = intervals.ratio(theirs.spent, own.spent)
  verdict = report.verdict(ratio, 1.0, strict=True)
  doubts = {report.HELD: own, report.FAILED: theirs}
  if verdict in doubts and doubts[verdict].censored:
    verdict = report.UNDECIDED
  each = ' and '.join(
    f'{x.num_reached} of {len(x.spent)} runs of {entry.group.label} after'
    f' {typical(x.spent)}'
    for entry, x in ((ours, own), (other, theirs))
  )
  reason = f'a return of {target:.4g} have {each}; the ratio is {ratio.text()}'
  numbers = {
    'panel': ours.group.panel,
    'method': other.group.key,
    'target': target,
    'ratio': ratio,
    'ours': own._asdict(),
    'theirs': theirs._asdict(),
  }
  return report.Claim(text, verdict, reason, numbers)


def time_within(
  ours: study.Found, other: study.Found, most: float
) -> report.Claim:
  """Claims that ours takes at most `most` times as long for its final return.

  Runs of `other` that never reach it count with all their time, so the ratio is
  an upper bound: the claim may then hold, but not fail.

  Args:
    ours: runs.
    other: the runs to compare with.
    most: the claimed ratio of seconds.
  """
  text = (
    f'{ours.group.label} takes at most {most:.3g} times as long as'
    f' {other.group.label} to the return it ends with in {ours.group.panel}'
  )
  if ours.lacks or other.lacks:
    return verdicts.missing(text, ours, other)
  finals = ours.finals
  target = sum(finals) / len(finals)
  own = cost(ours.curves, finals, 'seconds')
  theirs = cost(other.curves, _in_turn(finals, len(other.curves)), 'seconds')
  ratio = intervals.ratio(own.spent, theirs.spent)
  verdict = report.UNDECIDED
  if ratio.high <= most:
    verdict = report.HELD
  elif ratio.low > most and not theirs.censored:
    verdict = report.FAILED
  at_most = 'at most ' if theirs.censored else ''
  reason = (
    f'{ours.group.label} ends with {target:.4g} after'
    f' {typical(own.spent, pace.duration)};'
    f' {_how_many(theirs, other, pace.duration)}; the ratio is {at_most}'
    f'{ratio.text()}'
  )
  numbers = {
    'panel': ours.group.panel,
    'method': other.group.key,
    'target': target,
    'ratio': ratio,
    'most': most,
    'ours': own._asdict(),
    'theirs': theirs._asdict(),
  }
  return report.Claim(text, verdict, reason, numbers)


def _in_turn(values: Sequence[float], count: int) -> list[float]:
  """Repeats the values cyclically up to `count`."""
  return [values[index % len(values)] for index in range(count)]


def _how_many(
  spent: Cost, entry: study.Found, text: Callable[[float], str]
) -> str:
  """Describes how many runs reach a return, and at what cost."""
  count, label = len(spent.spent), entry.group.label
  if not spent.censored:
    return (
      f'all {count} runs of {label} have that, after'
      f' {typical(spent.spent, text)}'
    )
  number = spent.num_reached or 'none'
  return (
    f'{number} of {count} runs of {label} have that within'
    f' {text(max(spent.spent))}'
  )
