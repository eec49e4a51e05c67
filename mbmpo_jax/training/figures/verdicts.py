"""Claims about what runs end with: how much better, and how surely.

Each is judged by an interval over seeds (`intervals`): it held if all of the
interval agrees with it, did not hold if none does, and is undecided otherwise.
Those about what it takes are in `efficiency`.
"""

from collections.abc import Sequence

from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.reporting import pace


def better(
  ours: study.Found, other: study.Found, text: str, least: float = 0.0
) -> report.Claim:
  """That what our runs end with is more, by at least `least`.

  Where the runs of one are longer, it is what they have after as many
  transitions as the shorter ones.

  Args:
    ours: runs.
    other: those that they are compared with.
    text: the claim.
    least: in units of return.
  """
  if ours.lacks or other.lacks:
    return missing(text, ours, other)
  ends = [float(c.steps[-1]) for x in (ours, other) for c in x.curves]
  mine, theirs = (
    [curves.final(curves.until(curve, min(ends))) for curve in entry.curves]
    for entry in (ours, other)
  )
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
  return report.Claim(text, report.verdict(gain, least), reason, numbers)


def improves_by(
  ours: study.Found, other: study.Found, text: str, published: float
) -> report.Claim:
  """That our runs end with more, by a published share of the other's return.

  It held if they end with more for sure, by a share that is not for sure below
  the published one; it did not if it is, or they end with less for sure.

  Args:
    ours: runs.
    other: those that they are compared with.
    text: the claim, without the number.
    published: the share, 0.12 for 12%.
  """
  claim = f'{text} by {published:.0%}'
  if ours.lacks or other.lacks:
    return missing(claim, ours, other)
  gain = intervals.difference(ours.finals, other.finals)
  share = intervals.improvement(ours.finals, other.finals)
  verdict = report.verdict(gain, 0.0)
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
  """That what our runs end with is more than 0, on average."""
  if ours.lacks:
    return missing(text, ours, ours)
  mean = intervals.mean(ours.finals)
  reason = f'it ends with {mean.text()}'
  numbers = {'panel': ours.group.panel, 'mean': mean, 'ours': ours.finals}
  return report.Claim(text, report.verdict(mean, 0.0), reason, numbers)


def steadier(ours: study.Found, other: study.Found) -> report.Claim:
  """That our runs lose less of what they had learned by their end.

  Lost is the greatest smoothed return of a run less what it ends with.

  Args:
    ours: runs.
    other: those that they are compared with.
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
  verdict = report.verdict(less, 0.0)
  if not any(lost) and not any(theirs):  # Neither loses anything: not less.
    verdict = report.UNDECIDED
  return report.Claim(text, verdict, reason, numbers)


def all_of(text: str, claims: Sequence[report.Claim]) -> report.Claim:
  """That several claims hold: it did not if one did not, and held if all did.

  Args:
    text: what they say together.
    claims: of a panel and a method each.
  """
  if not claims:
    return report.undecided(text, 'nothing was compared')
  named: dict[str, list[str]] = {}
  for claim in claims:
    words = (claim.numbers.get(name) for name in ('method', 'panel'))
    name = ' in '.join(str(word) for word in words if word is not None)
    named.setdefault(claim.verdict, []).append(name or claim.text)
  verdict = report.UNDECIDED
  if report.FAILED in named:
    verdict = report.FAILED
  elif list(named) == [report.HELD]:
    verdict = report.HELD
  reason = '; '.join(
    f'{word} for {", ".join(names)}'
    for word in (report.HELD, report.FAILED, report.UNDECIDED)
    for names in [named.get(word)]
    if names
  )
  return report.Claim(text, verdict, f'it {reason}')


def missing(text: str, ours: study.Found, other: study.Found) -> report.Claim:
  """A claim about runs that are not there, or say nothing: undecided."""
  numbers = {'panel': ours.group.panel, 'method': other.group.key}
  return report.Claim(
    text, report.UNDECIDED, ours.lacks or other.lacks, numbers
  )


def _spread(values: Sequence[float]) -> str:
  mean = sum(values) / len(values)
  return f'{mean:.4g} ({min(values):.4g} to {max(values):.4g})'
