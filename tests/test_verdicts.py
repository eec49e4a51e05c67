"""What figures say of runs: intervals over seeds, and verdicts on claims."""

import json
import math
import pathlib

import numpy as np
import pytest
from scipy import stats

from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import efficiency
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import shown
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper
from tests import tiny

# --- intervals


def test_intervals_are_students_and_welchs() -> None:
  a, b = [3.0, 5.0, 4.5], [1.0, 2.5, 0.0, 2.0]
  made = intervals.mean(a)
  expected = stats.ttest_1samp(a, 0).confidence_interval(0.95)
  np.testing.assert_allclose(made[1:3], expected)
  assert made.value == pytest.approx(np.mean(a)) and made.num == 3
  made = intervals.difference(a, b)
  expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
  np.testing.assert_allclose(made[1:3], expected)
  assert made.value == pytest.approx(np.mean(a) - np.mean(b))
  made = intervals.ratio(a, [1.0, 2.0])
  logs = stats.ttest_ind(np.log(a), np.log([1, 2]), equal_var=False)
  expected = np.exp(logs.confidence_interval(0.95))
  np.testing.assert_allclose(made[1:3], expected)
  assert made.value == pytest.approx(stats.gmean(a) / math.sqrt(2))


@pytest.mark.parametrize('others', [[10.0, 11.0, 12.0], [-8.0, -9.0, -10.0]])
def test_improvement_is_a_share_of_the_others_size(others) -> None:
  """The interval is that of the function's own slopes, taken numerically."""
  values = [12.0, 14.0, 13.0]

  def share(a: float, b: float) -> float:
    return (a - b) / abs(b)

  a, b = np.mean(values), np.mean(others)
  made = intervals.improvement(values, others)
  assert made.value == pytest.approx(share(a, b))
  slopes = [
    (share(a + 1e-5, b) - share(a - 1e-5, b)) / 2e-5,
    (share(a, b + 1e-5) - share(a, b - 1e-5)) / 2e-5,
  ]
  parts = [
    (s * np.std(x, ddof=1)) ** 2 / 3
    for s, x in zip(slopes, (values, others), strict=True)
  ]
  freedom = sum(parts) ** 2 / sum(p**2 / 2 for p in parts)
  half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
  np.testing.assert_allclose(
    made[1:3], [made.value - half, made.value + half], rtol=1e-6
  )


def test_what_says_nothing_has_no_interval() -> None:
  """One run; a share of what may be nothing; no run at all."""
  assert intervals.mean([2.0])[:3] == (2.0, -math.inf, math.inf)
  assert intervals.mean([2.0]).text() == '2 (no interval), n = 1'
  assert intervals.correlation([0.5])[1:3] == (-1.0, 1.0)
  assert intervals.improvement([1.0, 2.0], [-1.0, 1.5]).low == -math.inf
  assert intervals.ratio([20.0], [1.0]).text() == '20 (no interval), n = 1'
  with pytest.raises(ValueError, match='N >= 1 runs'):
    intervals.mean([])
  with pytest.raises(ValueError, match='must be positive'):
    intervals.ratio([1.0], [0.0])


def test_correlations_are_averaged_by_fishers_z() -> None:
  r = [0.9, 0.5, 0.7, 0.8, 0.6]
  made = intervals.correlation(r)
  z = stats.ttest_1samp(np.arctanh(r), 0).confidence_interval(0.95)
  np.testing.assert_allclose(made[1:3], np.tanh(z))
  assert made.low < 0.6 < made.value < made.high < 1 and made.num == 5


# --- made-up runs


def _rows(returns, steps: int = 100, seconds: float = 2.0):
  """A run that evaluates at every second iteration."""
  return [
    {
      'iteration': i,
      'env_steps': steps * (i + 1),
      'eval/return_mean': float(returns[i // 2]) if i % 2 else math.nan,
      'time/learn_s': seconds,
      'time/eval_s': 7.0 if i % 2 else 0.0,
      'time/compile_s': 30.0 if i == 0 else 0.0,
    }
    for i in range(2 * len(returns))
  ]


def _found(
  key: str, *returns, steps: int = 100, panel: str = 'world', **kwargs
):
  """A group whose runs are done."""
  config = tiny.point_config()
  config.run.num_iterations = 2 * len(returns[0])
  group = study.seeds(panel, config, len(returns), key=key, label=key)
  rows = tuple(_rows(own, steps, **kwargs) for own in returns)
  return study.Found(group, rows)


def test_curve_of_a_run() -> None:
  """Evaluations only; seconds are of learning alone."""
  curve = curves.evaluations(_rows([1, math.nan, 3]))
  np.testing.assert_array_equal(curve.steps, [200, 600])
  np.testing.assert_array_equal(curve.returns, [1, 3])
  np.testing.assert_array_equal(curve.seconds, [4, 12])
  curve = curves.evaluations(_rows([0, 3, 6, 9, 12]))
  # Means of up to three: 0, 1.5, 3, 6, 9.
  assert curves.final(curve) == 9
  assert curves.reached(curve, -5) == 200
  assert curves.reached(curve, 3) == 600
  assert curves.reached(curve, 4.5) == pytest.approx(700)
  assert curves.reached(curve, 4.5, of='seconds') == pytest.approx(14)
  assert curves.reached(curve, 9.01) is None
  assert math.isnan(curves.final(curves.evaluations([])))


def test_fewer_samples_where_all_reach_the_return() -> None:
  """The arithmetic of the claim, done by hand.

  Ours end with 9 and 10.8, where they are after 1,000 transitions. Of the
  others the first and the third are to have 9, the second 10.8.
  """
  ours = _found('ours', [0, 3, 6, 9, 12], [0, 3.6, 7.2, 10.8, 14.4])
  other = _found(
    'other', [9.0] * 3, [10.7, 10.9, 10.9], [9, 9, 12], steps=10_000
  )
  claim = efficiency.fewer_samples(ours, other, 10)
  # Means of up to three: 10.7 then 10.8, which is twice as late.
  theirs = [20_000, 40_000, 20_000]
  assert claim.numbers['ours'] == pytest.approx([1000, 1000])
  assert claim.numbers['theirs'] == pytest.approx(theirs)
  expected = stats.gmean(theirs) / 1000
  assert claim.numbers['ratio'].value == pytest.approx(expected)
  assert claim.verdict == report.UNDECIDED
  assert 'n = 2' in claim.sentence
  assert 'all 3 runs of other have that, after 25.2k' in claim.sentence
  assert 'can show' not in claim.sentence
  other = _found('other', *([10.8] * 3 for _ in range(3)), steps=10_000)
  assert efficiency.fewer_samples(ours, other, 10).verdict == report.HELD
  assert efficiency.fewer_samples(ours, other, 30).verdict == report.FAILED


def test_fewer_samples_where_some_never_reach_the_return() -> None:
  """The ratio is at least that: it can hold, and cannot fail."""
  ours = _found('ours', *([1.0, 1.0] for _ in range(2)))
  never = _found('other', *([0.0, 0.0] for _ in range(3)), steps=4_000)
  claim = efficiency.fewer_samples(ours, never, 10)
  assert claim.numbers['ratio'].value == pytest.approx(16_000 / 200)
  assert claim.verdict == report.HELD
  assert 'none of 3 runs of other have that within 16k' in claim.sentence
  assert 'at least 80' in claim.sentence
  claim = efficiency.fewer_samples(ours, never, 100)
  assert claim.verdict == report.UNDECIDED
  assert 'as long as they are, these runs can show 80 at most' in claim.reason
  some = _found('other', [0.0, 0.0], [1.0, 1.0], [1.0, 1.0], steps=4_000)
  claim = efficiency.fewer_samples(ours, some, 10)
  assert claim.numbers['reached'] == 2
  assert '2 of 3 runs of other have that within 16k' in claim.sentence


def test_sooner_is_about_what_the_worse_ends_with() -> None:
  """Both ways; a run that never has it decides nothing by being late."""
  fast = _found('fast', *([4.0, 8.0] for _ in range(3)))
  slow = _found('slow', *([0.0, 8.0] for _ in range(3)))
  # The worse one ends with 4, where the other begins.
  claim = efficiency.sooner(fast, slow)
  assert claim.numbers['target'] == 4
  assert claim.numbers['ratio'].value == pytest.approx(2)
  assert claim.verdict == report.HELD
  assert efficiency.sooner(slow, fast).verdict == report.FAILED
  # Both have it in their first evaluation.
  assert efficiency.sooner(fast, fast).verdict == report.UNDECIDED
  mixed = _found('mixed', [0.0, 0.0], [9.0, 9.0], [9.0, 9.0])
  claim = efficiency.sooner(mixed, fast)
  assert claim.numbers['ours']['num_reached'] == 2
  assert claim.verdict == report.UNDECIDED


def test_claims_about_what_runs_end_with() -> None:
  high = _found('high', [9, 9], [10, 10], [11, 11])
  low = _found('low', [7, 7], [8, 8], [9, 9])
  gain = intervals.difference([9, 10, 11], [7, 8, 9])
  claim = verdicts.better(high, low, 'high is higher')
  assert claim.numbers['difference'] == gain
  assert claim.verdict == report.verdict(gain, 0.0) == report.UNDECIDED
  lower = _found('lower', [1, 1], [2, 2], [3, 3])
  assert verdicts.better(high, lower, '').verdict == report.HELD
  assert verdicts.better(lower, high, '').verdict == report.FAILED
  claim = verdicts.improves_by(high, lower, 'it improves', 0.12)
  assert claim.verdict == report.HELD
  assert claim.numbers['share'].value == pytest.approx(4)
  assert claim.text == 'it improves by 12%'
  close = _found('close', [8, 8.0], [8.1, 8.1], [8.05, 8.05])
  claim = verdicts.improves_by(close, _found('c', [4, 4], [4, 4]), 'it', 0.12)
  assert claim.text == 'it by 12% (here more)'
  # By 1% for sure, which is not 12%.
  base = _found('base', [7.99, 7.99], [8, 8], [8.01, 8.01])
  more = _found('more', [8.07, 8.07], [8.08, 8.08], [8.09, 8.09])
  claim = verdicts.improves_by(more, base, 'it', 0.12)
  assert claim.numbers['difference'].low > 0
  assert claim.verdict == report.FAILED and claim.text == 'it by 12%'
  # After as many transitions; the longer run went on to 20.
  longer = _found('longer', [1, 1, 1, 20, 20, 20], [1, 1, 1, 21, 21, 21])
  short = _found('short', [3, 3, 3], [3.1, 3.1, 3.1])
  claim = verdicts.better(longer, short, 'it')
  assert claim.numbers['ours'] == [1, 1] and claim.verdict == report.FAILED
  assert claim.reason.startswith('after 600 transitions longer has 1 (1 to 1)')
  assert verdicts.positive(high, 'up').verdict == report.HELD
  # A tie is not higher.
  same = _found('same', [8, 8], [8, 8])
  assert verdicts.better(same, same, 'it').verdict == report.UNDECIDED
  nothing = _found('nothing', [0, 0], [0, 0])
  assert verdicts.positive(nothing, 'it').verdict == report.UNDECIDED
  steady = _found('steady', [1, 5, 5, 5, 5], [1, 6, 6, 6, 6])
  broken = _found('broken', [9, 9, 9, 0, 0], [9, 9, 9, 0, 0])
  claim = verdicts.steadier(steady, broken)
  assert claim.numbers['ours'] == [0, 0]
  # Smoothed over three: 9, 9, 9, 6, 3.
  assert claim.numbers['theirs'] == [6, 6]
  assert claim.verdict == report.HELD


def test_a_run_that_broke_is_named() -> None:
  """None of its evaluations is finite."""
  whole = _found('whole', [1, 2], [2, 3])
  broken = _found('broken', [1, 2], [math.nan, math.nan])
  for claim in (
    efficiency.fewer_samples(whole, broken, 10),
    efficiency.sooner(broken, whole),
    efficiency.time_within(whole, broken, 1),
    verdicts.better(whole, broken, 'x'),
    verdicts.improves_by(broken, whole, 'x', 0.1),
    verdicts.positive(broken, 'x'),
    verdicts.steadier(broken, whole),
  ):
    assert claim.verdict == report.UNDECIDED
    assert claim.reason == 'world/broken/seed=1 has no finite evaluation'
  plot_paper.curves(
    shown.panels(study.Study('quick', pathlib.Path(), (whole, broken)))
  )


def test_claim_about_time() -> None:
  """Of learning alone; a run that never gets there makes it an upper bound."""
  ours = _found('ours', *([1.0, 1.0] for _ in range(2)), seconds=3.0)
  other = _found('other', *([1.0, 1.0] for _ in range(2)), seconds=2.0)
  claim = efficiency.time_within(ours, other, 1.6)
  assert claim.numbers['ratio'].value == pytest.approx(1.5)
  assert claim.verdict == report.HELD
  assert efficiency.time_within(ours, other, 1.27).verdict == report.FAILED
  never = _found('other', *([0.0, 0.0] for _ in range(2)), seconds=1.0)
  claim = efficiency.time_within(ours, never, 1.27)
  assert claim.verdict == report.UNDECIDED and 'at most 1.5' in claim.sentence


def test_several_claims_are_one() -> None:
  """One that failed fails it; all must hold; nothing is undecided."""
  claims = {
    word: report.Claim('x', word, '', {'method': name, 'panel': 'p'})
    for word, name in zip(
      (report.HELD, report.FAILED, report.UNDECIDED), 'abc', strict=True
    )
  }
  held, failed, undecided = claims.values()
  assert verdicts.all_of('all', [held, held]).verdict == report.HELD
  assert verdicts.all_of('all', [held, undecided]).verdict == report.UNDECIDED
  whole = verdicts.all_of('all', [held, failed, undecided])
  assert whole.verdict == report.FAILED
  assert whole.sentence == (
    'The claim that all did not hold: it held for a in p; did not hold for b'
    ' in p; is undecided for c in p.'
  )
  assert verdicts.all_of('all', []).verdict == report.UNDECIDED
  for given, expected in (
    ([held, held, failed], report.HELD),
    ([held, failed], report.FAILED),
    ([held, undecided], report.UNDECIDED),
    ([held, undecided, failed], report.UNDECIDED),
    ([], report.UNDECIDED),
  ):
    assert verdicts.most_of('most', given).verdict == expected


def test_missing_runs_are_named_and_decide_nothing(tmp_path) -> None:
  """Nothing there, half a run, and a run that is done."""
  config = tiny.point_config()
  config.run.num_iterations = 4
  group = study.seeds('world', config, 3)
  for seed, rows in ((0, _rows([1, 2])), (1, _rows([1]))):
    folder = tmp_path / 'world' / 'mbmpo' / f'seed={seed}'
    folder.mkdir(parents=True)
    lines = [json.dumps(r).replace('NaN', 'null') for r in rows]
    (folder / 'metrics.jsonl').write_text('\n'.join(lines))
  found = study.read('quick', tmp_path, [group])
  assert found.missing == [
    'world/mbmpo/seed=1: 2 of 4 iterations',
    'world/mbmpo/seed=2: 0 of 4 iterations',
  ]
  (entry,) = found.groups
  assert len(entry.finished) == 1 and entry.finals == [1.5]
  nothing = study.Found(group, ([], [], []))
  for claim in (
    efficiency.fewer_samples(nothing, entry, 10),
    verdicts.better(entry, nothing, 'x'),
    verdicts.improves_by(entry, nothing, 'x', 0.1),
    verdicts.steadier(entry, nothing),
    efficiency.sooner(entry, nothing),
    efficiency.time_within(entry, nothing, 1),
    verdicts.positive(nothing, 'x'),
  ):
    assert claim.verdict == report.UNDECIDED
    assert claim.reason == 'runs are missing'
  plot_paper.curves(shown.panels(found))
