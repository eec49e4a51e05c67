"""The benchmarks run, so that none rots."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops
from benchmarks import throughput
from benchmarks import timing
from mbmpo_jax import envs


def test_forward_flops_by_hand():
  assert throughput.forward_flops((3, 5, 2)) == 2 * (3 * 5 + 5 * 2)


def test_flops_of_nested_programs_by_hand():
  """A scan's body as often as it runs, a while-loop's once, a vmap's batch."""
  weight = jnp.ones((4, 4))

  def scanned(x):
    return jax.lax.scan(lambda y, _: (y @ weight, None), x, length=5)[0]

  def searched(x):
    return jax.lax.while_loop(lambda y: y[0, 0] < 9, lambda y: y @ weight, x)

  once = 2 * 3 * 4 * 4
  x = jnp.ones((3, 4))
  assert flops.matmul_flops(jax.jit(scanned), x) == 5 * once
  assert flops.matmul_flops(searched, x) == once
  batch = jnp.ones((7, 3, 4))
  assert flops.matmul_flops(jax.vmap(scanned), batch) == 7 * 5 * once
  assert (
    flops.matmul_flops(
      lambda x: jax.lax.cond(x[0, 0] > 0, scanned, jnp.sin, x), x
    )
    == 5 * once
  )


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
    assert result['flops'] > 0
  assert report['matmul_flops_per_s'] > 0


def test_stepping_measures_every_environment_and_variant(monkeypatch):
  """Two of them; each costs a compilation."""
  monkeypatch.setattr(envs, 'names', lambda: ('point', 'swimmer'))
  monkeypatch.setattr(
    envs, 'variants', lambda name: {'point': (), 'swimmer': ('paper',)}[name]
  )
  report = throughput.run_all(num_envs=2, horizon=40, repeats=1)
  json.dumps(report)
  results = {result['name']: result for result in report['results']}
  assert list(results) == ['point', 'swimmer paper']
  # The point's own limit is 30 steps.
  assert results['point']['work'] == 2 * 30
  assert results['swimmer paper']['work'] == 2 * 40
