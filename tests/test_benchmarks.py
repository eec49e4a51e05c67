"""The benchmarks run, so that none rots."""

import json

import pytest

from benchmarks import throughput
from benchmarks import timing


def test_forward_flops_by_hand():
  assert throughput.forward_flops((3, 5, 2)) == 2 * (3 * 5 + 5 * 2)


def test_fraction_is_of_the_rate_around_the_repetition():
  class Rate:
    def __call__(self) -> float:
      return 1e6

  result = timing.measure(
    'twice', lambda x: x + x, 1.0, rate=Rate(), repeats=3, work=1, unit='sums',
    flops=1e3,
  )  # fmt: skip
  assert len(result.seconds) == len(result.fractions) == 3
  for seconds, fraction in zip(result.seconds, result.fractions, strict=True):
    assert fraction == pytest.approx(1e3 / seconds / 1e6)
  assert result.median_s == sorted(result.seconds)[1]


@pytest.mark.slow
def test_throughput_measures_every_phase():
  report = throughput.run('point', 'tiny', repeats=1, update_repeats=1)
  json.dumps(report)
  names = [result['name'] for result in report['results']]
  assert names == ['collect', 'fit', 'imagine', 'meta-step', 'update']
  for result in report['results']:
    assert result['median_s'] > 0
  assert report['matmul_flops_per_s'] > 0
