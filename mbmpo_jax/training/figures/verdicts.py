"""Claims about runs: how many samples, how much better, and how surely.

Each is judged by an interval over seeds (`intervals`): it held if all of the
interval agrees with it, did not hold if none does, and is undecided otherwise.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
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


def fewer_samples(
  ours: study.Found, other: study.Found, factor: float
) -> report.Claim:
  """That a method needs `factor` times the transitions for our return.

  Our return is what each of our runs ends with, and the mean of that for the
  other method. A run that never has it counts with all its transitions, so that
  the ratio is at least that: the claim may then hold, but not fail.

  Args:
    ours: the runs that are to need fewer.
    other: those that they are compared with.
    factor: how many times fewer.
  """
  name = f'{ours.group.label} needs {factor:g} times fewer samples than'
  text = f'{name} {other.group.label} in {ours.group.panel}'
  if not ours.finished or not other.finished:
    return report.undecided(text, 'runs are missing')
  finals = ours.finals
  target = sum(finals) / len(finals)
  own = cost(ours.curves, finals)
  theirs = cost(other.curves, [target] * len(other.curves))
  ratio = intervals.ratio(theirs.spent, own.spent)
  censored = theirs.num_reached < len(theirs.spent)
  verdict = report.verdict(ratio, factor)
  if censored and verdict == report.FAILED:
    verdict = report.UNDECIDED
  most = pace.count(max(theirs.spent))
  if theirs.num_reached == 0:
    what = (
      f'none of its {len(theirs.spent)} runs has {target:.4g} within'
      f' {most} transitions, at least'
    )
  elif censored:
    what = (
      f'{theirs.num_reached} of its {len(theirs.spent)} runs have'
      f' {target:.4g} within {most} transitions, at least'
    )
  else:
    what = f'it has {target:.4g} after {_mean(theirs.spent)} transitions,'
  reason = (
    f'{what} {ratio.text()} times the {_mean(own.spent)} of {ours.group.label}'
  )
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


def better(
  ours: study.Found, other: study.Found, text: str, least: float = 0.0
) -> report.Claim:
  """That what our runs end with is more, by at least `least`.

  Args:
    ours: runs.
    other: those that they are compared with.
    text: the claim.
    least: in units of return.
  """
  if not ours.finished or not other.finished:
    return report.undecided(text, 'runs are missing')
  gain = intervals.difference(ours.finals, other.finals)
  reason = (
    f'{ours.group.label} ends with {_spread(ours.finals)},'
    f' {other.group.label} with {_spread(other.finals)}; the difference is'
    f' {gain.text()}'
  )
  numbers = {
    'panel': ours.group.panel,
    'method': other.group.key,
    'difference': gain,
    'ours': ours.finals,
    'theirs': other.finals,
  }
  return report.Claim(text, report.verdict(gain, least), reason, numbers)


def improves_by(
  ours: study.Found, other: study.Found, text: str, published: float
) -> report.Claim:
  """That our runs end with more, by a published share of the other's return.

  It held if they end with more for sure, and did not if for sure with less; the
  share is told beside the published one.

  Args:
    ours: runs.
    other: those that they are compared with.
    text: the claim, without the number.
    published: the share, 0.12 for 12%.
  """
  claim = f'{text} by {published:.0%}'
  if not ours.finished or not other.finished:
    return report.undecided(claim, 'runs are missing')
  gain = intervals.difference(ours.finals, other.finals)
  share = intervals.improvement(ours.finals, other.finals)
  verdict = report.verdict(gain, 0.0)
  if verdict == report.HELD and not share.low <= published <= share.high:
    more = 'more' if share.value > published else 'less'
    claim += f' (here {more})'
  reason = (
    f'{ours.group.label} ends with {_spread(ours.finals)},'
    f' {other.group.label} with {_spread(other.finals)}, which is'
    f' {share.percent()}'
  )
  numbers = {
    'panel': ours.group.panel,
    'published': published,
    'share': share,
    'difference': gain,
    'ours': ours.finals,
    'theirs': other.finals,
  }
  return report.Claim(claim, verdict, reason, numbers)


def _mean(values: Sequence[float]) -> str:
  """The geometric mean, as ratios have it."""
  logs = [math.log(value) for value in values]
  return pace.count(math.exp(sum(logs) / len(logs)))


def _spread(values: Sequence[float]) -> str:
  mean = sum(values) / len(values)
  return f'{mean:.4g} ({min(values):.4g} to {max(values):.4g})'
