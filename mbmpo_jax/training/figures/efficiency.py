"""Claims about what it takes to get to a return: transitions, and time.

A run that never has the return counts with all that it had, which makes a ratio
a bound. Otherwise they are judged as those of `verdicts` are.
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
  """What a method needs for a return.

  Attributes:
    spent: of each run, transitions or seconds until it has the return, or all
      that it had where it never does.
    num_reached: runs that have it.
  """

  spent: list[float]
  num_reached: int

  @property
  def censored(self) -> bool:
    """Whether some run never has the return."""
    return self.num_reached < len(self.spent)


def cost(
  entries: Sequence[curves.Curve], targets: Sequence[float], of: str = 'steps'
) -> Cost:
  """What runs needed for a return.

  Args:
    entries: a curve per run.
    targets: the return that each is to have.
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
  """The geometric mean, as ratios have it, in words by `text`."""
  logs = [math.log(value) for value in values]
  return text(math.exp(sum(logs) / len(logs)))


def fewer_samples(
  ours: study.Found, other: study.Found, factor: float
) -> report.Claim:
  """That a method needs `factor` times the transitions for our return.

  Our return is what each of our runs ends with; a run of the other method is to
  have that of the run of its turn, so that how far our returns are apart is in
  the interval. A run that never has it counts with all its transitions, so that
  the ratio is at least that: the claim may then hold, but not fail.

  Args:
    ours: the runs that are to need fewer.
    other: those that they are compared with.
    factor: how many times fewer.
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
  """That ours needs fewer transitions for what the worse of the two ends with.

  Runs that never have it count with all their transitions.

  Args:
    ours: runs.
    other: those that they are compared with.
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
  verdict = report.verdict(ratio, 1.0)
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
  """That ours takes at most `most` times as long for the return it ends with.

  Runs of the other that never have it count with all their time, so that the
  ratio is at most that: the claim may then hold, but not fail.

  Args:
    ours: runs.
    other: those that they are compared with.
    most: the ratio of seconds.
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
  """So many of them, from the first again after the last."""
  return [values[index % len(values)] for index in range(count)]


def _how_many(
  spent: Cost, entry: study.Found, text: Callable[[float], str]
) -> str:
  """Which runs have a return, and after or within what."""
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
