"""Claims about the final returns of runs, judged by confidence intervals.

A claim held if the whole interval over seeds (`intervals`) agrees with it, did
not hold if no part of it does, and is undecided otherwise. `efficiency` has the
claims about transitions and time.
"""

from collections.abc import Callable, Sequence

from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.reporting import pace


def better(
  ours: study.Found,
  other: study.Found,
  text: str,
  least: float = 0.0,
  *,
  curves_of: Callable[[study.Found], list[curves.Curve]] | None = None,
  window: int = curves.WINDOW,
) -> report.Claim:
  """Claims that our final return is higher, by at least `least`.

  With `least` 0, it must be higher: a tie is undecided.

  All returns are averaged over the same transitions (`curves.finals`): if the
  runs of one group are longer, up to where the shorter ones end.

  Args:
    ours: runs.
    other: the runs to compare with.
    text: the claim.
    least: in units of return.
    curves_of: the curves of finished runs to compare, none of them empty; by
      default of evaluations.
    window: evaluations to average over, at least.
  """
  if ours.lacks or other.lacks:
    return missing(text, ours, other)
  found = [
    curves_of(entry) if curves_of else entry.curves for entry in (ours, other)
  ]
  ends = [float(curve.steps[-1]) for group in found for curve in group]
  values = curves.finals([*found[0], *found[1]], window)
  mine, theirs = values[: len(found[0])], values[len(found[0]) :]
  gain = intervals.difference(mine, theirs)
  cut = min(ends) < max(ends)
  after = f'after {pace.count(min(ends))} transitions ' if cut else ''
  reason = (
    f'{after}{ours.group.label} {"has" if cut else "ends with"}'
    f' {_spread(mine)}, {other.group.label} {"" if cut else "with "}'
    f'{_spread(theirs)}; the difference is {gain.text()}'
  )
  numbers = {
    'panel': ours.group.panel,
    'method': other.group.key,
    'difference': gain,
    'ours': mine,
    'theirs': theirs,
    'transitions': min(ends),
  }
  verdict = report.verdict(gain, least, strict=least == 0)
  return report.Claim(text, verdict, reason, numbers)


def improves_by(
  ours: study.Found, other: study.Found, text: str, published: float
) -> report.Claim:
  """Claims that our final return is higher by a published fraction.

  The claim held if the return is significantly higher and the fraction is not
  significantly below the published one. It did not hold if the fraction is
  significantly below it, or the return is significantly lower.

  Args:
    ours: runs.
    other: the runs to compare with.
    text: the claim, without the number.
    published: the fraction of the other's return, 0.12 for 12%.
  """
  claim = f'{text} by {published:.0%}'
  if ours.lacks or other.lacks:
    return missing(claim, ours, other)
  gain = intervals.difference(ours.finals, other.finals)
  share = intervals.improvement(ours.finals, other.finals)
  verdict = report.verdict(gain, 0.0, strict=True)
  if verdict == report.HELD and share.low > published:
    claim += ' (here more)'
  if verdict == report.HELD and share.high < published:
    verdict = report.FAILED
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


def positive(ours: study.Found, text: str) -> report.Claim:
  """Claims that our mean final return is above 0."""
  if ours.lacks:
    return missing(text, ours, ours)
  mean = intervals.mean(ours.finals)
  reason = f'it ends with {mean.text()}'
  numbers = {'panel': ours.group.panel, 'mean': mean, 'ours': ours.finals}
  verdict = report.verdict(mean, 0.0, strict=True)
  return report.Claim(text, verdict, reason, numbers)


def steadier(ours: study.Found, other: study.Found) -> report.Claim:
  """Claims that our returns drop less below their maximum at the end.

  The drop of a run is its largest smoothed return minus its final return.

  Args:
    ours: runs.
    other: the runs to compare with.
  """
  text = f'{ours.group.label} unlearns less than {other.group.label}'
  if ours.lacks or other.lacks:
    return missing(text, ours, other)
  lost, theirs = (
    [
      float(curves.smoothed(c).returns.max()) - curves.final(c)
      for c in entry.curves
    ]
    for entry in (ours, other)
  )
  less = intervals.difference(theirs, lost)
  reason = (
    f'from their best to their end its runs lose {_spread(lost)}, those of'
    f' {other.group.label} {_spread(theirs)}; the difference is {less.text()}'
  )
  numbers = {
    'panel': ours.group.panel,
    'difference': less,
    'ours': lost,
    'theirs': theirs,
  }
  verdict = report.verdict(less, 0.0, strict=True)
  return report.Claim(text, verdict, reason, numbers)


def all_of(text: str, claims: Sequence[report.Claim]) -> report.Claim:
  """Claims that all `claims` hold.

  It did not hold if one did not, and held if all did.

  Args:
    text: the combined claim.
    claims: one per panel and method.
  """
  named = _named(claims)
  verdict = report.UNDECIDED
  if report.FAILED in named:
    verdict = report.FAILED
  elif list(named) == [report.HELD]:
    verdict = report.HELD
  return _combined(text, verdict, named)


def most_of(text: str, claims: Sequence[report.Claim]) -> report.Claim:
  """Claims that more than half of the `claims` hold.

  It did not hold if half or more did not.

  Args:
    text: the combined claim.
    claims: one per panel and method.
  """
  named = _named(claims)
  held, failed = (
    2 * len(named.get(word, [])) for word in (report.HELD, report.FAILED)
  )
  verdict = report.UNDECIDED
  if held > len(claims):
    verdict = report.HELD
  elif claims and failed >= len(claims):
    verdict = report.FAILED
  return _combined(text, verdict, named)


def _named(claims: Sequence[report.Claim]) -> dict[str, list[str]]:
  """By verdict: methods and panels of the claims."""
  named: dict[str, list[str]] = {}
  for claim in claims:
    words = (claim.numbers.get(name) for name in ('method', 'panel'))
    name = ' in '.join(str(word) for word in words if word is not None)
    named.setdefault(claim.verdict, []).append(name or claim.text)
  return named


def _combined(
  text: str, verdict: str, named: dict[str, list[str]]
) -> report.Claim:
  """The claim, whose reason lists the single verdicts."""
  if not named:
    return report.undecided(text, 'nothing was compared')
  reason = '; '.join(
    f'{word} for {", ".join(names)}'
    for word in (report.HELD, report.FAILED, report.UNDECIDED)
    for names in [named.get(word)]
    if names
  )
  return report.Claim(text, verdict, f'it {reason}')


def missing(text: str, ours: study.Found, other: study.Found) -> report.Claim:
  """Returns an undecided claim, because runs are missing or not usable."""
  numbers = {'panel': ours.group.panel, 'method': other.group.key}
  return report.Claim(
    text, report.UNDECIDED, ours.lacks or other.lacks, numbers
  )


def _spread(values: Sequence[float]) -> str:
  mean = sum(values) / len(values)
  return f'{mean:.4g} ({min(values):.4g} to {max(values):.4g})'
