"""The benchmarks run, so that none rots, and count as by hand."""

import itertools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compile as compile_lib
from benchmarks import counts
from benchmarks import flops
from benchmarks import gssm
from benchmarks import m3po
from benchmarks import off_policy
from benchmarks import pieces as pieces_lib
from benchmarks import reports
from benchmarks import roofline
from benchmarks import scales
from benchmarks import scaling
from benchmarks import throughput
from benchmarks import timing
from mbmpo_jax import backend
from mbmpo_jax import envs
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from tests import tiny

WEIGHT = jnp.ones((4, 4))
ONCE = 2 * 3 * 4 * 4


def _scanned(x):
  """Five products."""
  return jax.lax.scan(lambda y, _: (y @ WEIGHT, None), x, length=5)[0]


def _searched(x):
  """As many products as make the first number at least 9."""
  return jax.lax.while_loop(lambda y: y[0, 0] < 9, lambda y: y @ WEIGHT, x)


def test_flops_of_loops_by_hand():
  """A loop's body as often as it runs, a vmap's batch."""
  x = jnp.ones((3, 4))
  assert flops.matmul_flops(jax.jit(_scanned), x) == 5 * ONCE
  batch = jnp.ones((7, 3, 4))
  assert flops.matmul_flops(jax.vmap(_scanned), batch) == 7 * 5 * ONCE
  # 1, 4, 16.
  assert flops.matmul_flops(_searched, x) == 2 * ONCE
  assert flops.matmul_flops(_searched, 10 * x) == 0
  # All run as long as the longest: 0.1, 0.4, 1.6, 6.4, 25.6.
  batch = jnp.stack([0.1 * x, 10 * x])
  assert flops.matmul_flops(jax.vmap(_searched), batch) == 2 * 4 * ONCE


def test_flops_of_a_batch_of_loops_of_which_one_has_ended():
  """It stands still: going on, 10, -40, 160, -640 would start again."""

  def swinging(x):
    return jax.lax.while_loop(
      lambda state: (state[0][0, 0] < 9) & (state[1] < 20),
      lambda state: (state[0] @ -WEIGHT, state[1] + 1),
      (x, 0),
    )

  x = jnp.ones((3, 4))  # -1, 4, -16, 64
  batch = jnp.stack([-x, 10 * x])
  assert flops.matmul_flops(jax.vmap(swinging), batch) == 2 * 3 * ONCE


def test_flops_of_nested_programs_by_hand():
  """Loops within loops, and calls between them."""

  def shrunk(carry, _):
    # 0.01, 0.04, ..., 10.24: five products in each of the six steps.
    carry = jax.jit(_searched)(jnp.full_like(carry, 0.01))
    return carry, jnp.sum(carry)

  def nested(x, count):
    carry, sums = jax.lax.scan(shrunk, x, length=6)
    inner = jax.lax.fori_loop(0, count, lambda _, y: _scanned(y) / 1e9, carry)
    return inner, sums

  expected = (6 * 5 + 3 * 5) * ONCE
  assert flops.matmul_flops(nested, jnp.ones((3, 4)), 3) == expected


@pytest.mark.parametrize(('sign', 'products'), [(1, 5), (-1, 0)])
def test_flops_of_the_branch_taken(sign, products):
  def branch(x):
    return jax.lax.cond(x[0, 0] > 0, _scanned, jnp.sin, x)

  assert flops.matmul_flops(branch, sign * jnp.ones((3, 4))) == products * ONCE


def _hand_written(weights, tangents, inputs, error_of, change_of):
  """Gradient, Hessian product and Fisher product of a tanh network.

  Every product of the three by hand, nothing twice, activations and errors
  kept; in the order of `counts.py`. Returns the values, and the FLOPs of
  forward, backward, hessian and fisher.
  """
  spent = 0

  def dot(a, b):
    nonlocal spent
    spent += 2 * a.shape[0] * a.shape[1] * b.shape[1]
    return a @ b

  def lap():
    nonlocal spent
    lapped, spent = spent, 0
    return lapped

  depth, flops = len(weights), {}
  hidden = [inputs]
  for index, weight in enumerate(weights):
    output = dot(hidden[-1], weight)
    hidden.append(jnp.tanh(output) if index < depth - 1 else output)
  flops['forward'] = lap()

  errors = [error_of(hidden[-1])]
  for index in range(depth - 1, 0, -1):
    slope = 1 - hidden[index] ** 2
    errors.insert(0, dot(errors[0], weights[index].T) * slope)
  gradient = [dot(h.T, e) for h, e in zip(hidden, errors, strict=False)]
  flops['backward'] = lap()

  def tangent():
    moved = [None]
    for index, (weight, along) in enumerate(
      zip(weights, tangents, strict=True)
    ):
      change = dot(hidden[index], along)
      if index:
        change = change + dot(moved[index], weight)
      if index < depth - 1:
        change = change * (1 - hidden[index + 1] ** 2)
      moved.append(change)
    return moved

  moved = tangent()
  changed = [change_of(moved[-1])]
  for index in range(depth - 1, 0, -1):
    slope = 1 - hidden[index] ** 2
    passed = errors[index] @ weights[index].T  # Kept from backward.
    bent = passed * -2 * hidden[index] * moved[index]
    through = dot(changed[0], weights[index].T)
    through = through + dot(errors[index], tangents[index].T)
    changed.insert(0, through * slope + bent)
  hessian = [dot(h.T, c) for h, c in zip(hidden, changed, strict=False)]
  for index in range(1, depth):
    hessian[index] = hessian[index] + dot(moved[index].T, errors[index])
  flops['hessian'] = lap()

  pulled = [change_of(tangent()[-1])]
  for index in range(depth - 1, 0, -1):
    slope = 1 - hidden[index] ** 2
    pulled.insert(0, dot(pulled[0], weights[index].T) * slope)
  fisher = [dot(h.T, p) for h, p in zip(hidden, pulled, strict=False)]
  flops['fisher'] = lap()
  return gradient, hessian, fisher, flops


@pytest.mark.parametrize('sizes', [(3, 2), (5, 4, 3), (6, 4, 5, 3)])
def test_counts_are_those_of_a_program_written_by_hand(sizes):
  """Which computes what JAX does."""
  samples = 7
  keys = jax.random.split(jax.random.PRNGKey(0), 2 * len(sizes))
  shapes = list(itertools.pairwise(sizes))
  weights = [
    jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=False)
  ]
  tangents = [
    jax.random.normal(k, s)
    for k, s in zip(keys[len(shapes) :], shapes, strict=False)
  ]
  inputs = jax.random.normal(keys[-1], (samples, sizes[0]))
  targets = jax.random.normal(keys[-2], (samples, sizes[-1]))

  def network(weights):
    hidden = inputs
    for weight in weights[:-1]:
      hidden = jnp.tanh(hidden @ weight)
    return hidden @ weights[-1]

  def loss(weights):
    return 0.5 * jnp.sum(jnp.square(network(weights) - targets))

  gradient, hessian, fisher, spent = _hand_written(
    weights, tangents, inputs, lambda output: output - targets, lambda x: x
  )
  along = jax.jvp(network, (weights,), (tangents,))[1]
  expected = (
    jax.grad(loss)(weights),
    jax.jvp(jax.grad(loss), (weights,), (tangents,))[1],
    jax.vjp(network, weights)[1](along)[0],
  )
  for ours, theirs in zip((gradient, hessian, fisher), expected, strict=True):
    for a, b in zip(ours, theirs, strict=True):
      assert jnp.allclose(a, b, rtol=1e-4, atol=1e-4)
  for name, value in spent.items():
    assert samples * getattr(counts, name)(sizes) == value, name


def test_bytes_of_products_by_hand():
  """Operands and result of each, in a loop as often as it runs."""
  x = jnp.ones((3, 4))
  wide = jnp.ones((4, 5), jnp.bfloat16)

  def product(x):
    return jnp.matmul(x.astype(jnp.bfloat16), wide).astype(x.dtype)

  count = flops.matmul_count(product, x)
  assert (count.flops, count.bytes) == (2 * 60, 2 * (12 + 20 + 15))

  def repeated(x):
    return jax.lax.scan(lambda x, _: (x @ x.T @ x, None), x, None, length=5)[0]

  count = flops.matmul_count(repeated, x)
  assert count.flops == 5 * 2 * (36 + 36)
  assert count.bytes == 5 * 4 * ((12 + 12 + 9) + (9 + 12 + 12))


def _start(config):
  """The point, the algorithm for it, and its first state."""
  env = envs.make('point')
  algorithm = mbmpo.make(env, config, check=False)
  return env, algorithm, scales.start(algorithm, config)


@pytest.mark.slow
def test_a_meta_step_does_little_more_than_it_must():
  """At most 1.3 times the arithmetic, with networks of the paper's sizes."""
  config = tiny.point_config(
    policy__hidden_sizes=(32, 32),
    model__hidden_sizes=(512, 512),
    meta__num_meta_steps=1,
    trust_region__cg_iterations=10,
    trust_region__max_backtracks=1,
  )
  env, algorithm, state = _start(config)
  must = counts.iteration(env, config, epochs=0, evaluations=1)
  does = flops.matmul_flops(algorithm.phases['improve'], state)
  assert must['improve'].flops <= does <= 1.3 * must['improve'].flops
  # So does the outer step alone: imagination does exactly what it must.
  imagined = 2 * must['imagine'].flops
  outer = must['improve'].flops - imagined
  assert does - imagined <= 1.3 * outer


def test_programs_do_what_they_must():
  """Fit and imagination: no product that the counts do not know."""
  config = tiny.point_config(
    collect__buffer_capacity=160, model__validation_fraction=0.2
  )
  env, algorithm, state = _start(config)
  state = state._replace(buffer=state.buffer._replace(size=jnp.int32(160)))
  must = counts.iteration(env, config, epochs=2 * 2, evaluations=0)
  # 4 batches of 32 train, one of 32 validates.
  does = flops.matmul_flops(algorithm.phases['fit'], state)
  assert does == must['fit'].flops
  pieces = pieces_lib.make(env, config)
  does = flops.matmul_flops(pieces.imagine, state)
  assert does == must['imagine'].flops


@pytest.mark.slow
def test_a_member_that_has_stopped_costs_nothing_more():
  """Its fit does the products of its own epochs, whatever others need."""
  config = tiny.point_config(
    collect__buffer_capacity=160,
    model__num_models=3,
    collect__num_trajectories=6,
    **tiny.STOPPING,
  )
  env, algorithm, state = _start(config)
  # Nothing to learn: the validation loss soon rises.
  data = state.buffer.data
  obs, next_obs = jax.random.normal(
    jax.random.PRNGKey(1), (2, *data.obs.shape), data.obs.dtype
  )
  data = data._replace(obs=obs, next_obs=next_obs)
  buffer = state.buffer._replace(data=data, size=jnp.int32(160))
  state = state._replace(buffer=buffer)
  metrics = jax.jit(algorithm.phases['fit'])(state)[1]
  epochs = round(float(metrics['model/epochs']) * 3)
  # Not all stop together.
  assert 3 < epochs < 3 * 30 and epochs % 3
  must = counts.iteration(env, config, epochs=epochs, evaluations=0)
  assert flops.matmul_flops(algorithm.phases['fit'], state) == must['fit'].flops


def test_fraction_is_of_the_rate_around_the_repetition():
  class Rate:
    def __call__(self) -> float:
      return 1e6

  result = timing.measure(
    'twice', lambda x: x + x, jnp.ones(()), rate=Rate(), repeats=3, work=1,
    unit='sums', flops=1e3,
  )  # fmt: skip
  assert len(result.seconds) == len(result.fractions) == 3
  for seconds, fraction in zip(result.seconds, result.fractions, strict=True):
    assert fraction == pytest.approx(1e3 / seconds / 1e6)
  assert result.median_s == sorted(result.seconds)[1]


def test_programs_alternate_and_keep_their_own_times(monkeypatch):
  """By a clock that only the programs move, one second and three."""
  clock, ran = [0.0], []
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: clock[0])

  def program(name, seconds, flops):
    def run():
      ran.append(name)
      clock[0] += seconds

    return timing.Program(name, run, (), 0.0, 1, 'runs', flops)

  one, three = timing.alternate(
    [program('one', 1.0, 50.0), program('three', 3.0, None)],
    rate=lambda: 100.0,
    repeats=2,
  )
  assert ran == ['one', 'three'] * 3  # The first of each warms it up.
  assert (one.name, one.seconds, one.fractions) == ('one', [1, 1], [0.5, 0.5])
  assert (three.name, three.seconds) == ('three', [3, 3])
  assert three.fractions is None


def test_short_programs_fill_their_second_and_calls_may_be_several_runs(
  monkeypatch,
):
  """By that clock: 0.3 s fit four times into 1 s, of two runs each."""
  clock, calls = [0.0], [0]
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: clock[0])

  def run():
    calls[0] += 1
    clock[0] += 0.3

  short = timing.Program('short', run, (), 0.0, 1, 'runs', 30.0, runs=2)
  (timed,) = timing.alternate(
    [short], rate=lambda: 100.0, repeats=3, at_least_s=1.0
  )
  assert calls[0] == 1 + 3 * 4
  assert timed.seconds == pytest.approx([0.15] * 3)
  assert timed.fractions == pytest.approx([30 / 0.15 / 100] * 3)


def _check_header(report, benchmark):
  """What every report carries."""
  assert report['benchmark'] == benchmark
  assert {'env', 'scale', 'precision'} <= report.keys()
  assert {
    'device',
    'platform',
    'num_devices',
    'cpu',
    'cpu_cores',
    'python',
    'jax',
    'jaxlib',
    'commit',
  } <= report['environment'].keys()


def test_report_is_written_where_it_is_asked_for(tmp_path, capsys):
  report = reports.make(
    'some', env='point', scale='tiny', precision='highest', results=[1]
  )
  path = reports.write(report, str(tmp_path / 'deep' / 'some.json'))
  assert json.loads(path.read_text()) == report
  assert str(path) in capsys.readouterr().out


@pytest.mark.slow
def test_throughput_measures_every_phase():
  report = throughput.run(
    'point', 'tiny', repeats=1, update_repeats=1, num_devices=2
  )
  report = json.loads(json.dumps(report))
  assert report['shared_by_devices'] == 2
  _check_header(report, 'throughput')
  names = [result['name'] for result in report['results']]
  assert names == ['collect', 'fit', 'imagine', 'meta-step', 'update']
  for result in report['results']:
    assert result['median_s'] > 0
    assert result['flops'] > 0
  assert report['matmul_flops_per_s'] > 0


@pytest.mark.slow
@pytest.mark.parametrize('num_devices', [1, 2])
def test_roofline_counts_and_measures_every_piece(num_devices):
  report = roofline.run('point', 'tiny', repeats=1, num_devices=num_devices)
  report = json.loads(json.dumps(report))
  _check_header(report, 'roofline')
  assert report['shared_by_devices'] == num_devices
  rows = {row['name']: row for row in report['results']}
  assert list(rows) == [
    'collect',
    'fit',
    'meta-step',
    'iteration',
    'imagine',
    'advantages',
    'inner gradient',
    'surrogate gradient',
    'curvature products',
    'evaluation',
  ]
  for row in rows.values():
    assert row['median_s'] > 0
    assert 0 < row['must_bytes'] < row['does_bytes']
    assert row['ratio'] == row['does_flops'] / row['must_flops'] >= 1
  for name in ('does_flops', 'must_flops'):
    *phases, whole = report['results'][:4]
    in_phases = sum(row['times'] * row[name] for row in phases)
    assert in_phases == pytest.approx(whole[name])
    in_pieces = sum(row['times'] * row[name] for row in report['results'][4:])
    assert in_pieces == pytest.approx(rows['meta-step'][name], rel=0.05)
  assert sum(row['times'] * row['median_s'] for row in phases) == (
    pytest.approx(whole['median_s'])
  )
  assert min(row['fractions'][0] for row in phases) < whole['fractions'][0]
  assert whole['fractions'][0] < max(row['fractions'][0] for row in phases)
  assert set(report['memory']) == {'collect', 'fit', 'improve', 'update'}
  for sizes in report['memory'].values():
    assert 0 < sizes['total'] < report['peak_rss_bytes']


@pytest.mark.slow
def test_compile_measures_cold_and_warm(monkeypatch):
  """One small program in two processes, each on two devices."""
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=2')
  monkeypatch.setattr(compile_lib, '_STARTS', {'training': ('fit',)})
  monkeypatch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
  report = json.loads(json.dumps(compile_lib.run('point', 'tiny')))
  _check_header(report, 'compile')
  for row in report['results']:
    assert (row['name'], row['devices']) == ('fit', 2)
    assert min(row['trace_s'], row['lower_s'], row['compile_s']) > 0
  rows = [(row['cache'], row['from_cache']) for row in report['results']]
  assert rows == [('cold', False), ('warm', True)]
  for row, start in zip(report['results'], report['starts'], strict=True):
    assert start['cache'] == row['cache']
    assert start['seconds'] > row['trace_s'] + row['lower_s'] + row['compile_s']


@pytest.mark.slow
def test_scaling_measures_seeds_and_devices():
  """20 tasks do not divide over 3 devices."""
  report = scaling.run('point', 'tiny', repeats=1, seeds=[1, 2], devices=[1, 3])
  report = json.loads(json.dumps(report))
  _check_header(report, 'scaling')
  assert [row['count'] for row in report['seeds']] == [1, 2]
  for row in report['seeds']:
    assert row['median_s'] > 0
    assert row['relative'] == row['median_s'] / report['seeds'][0]['median_s']
  shared, refused = report['devices']
  assert shared['count'] == 1 and shared['median_s'] > 0
  assert refused['count'] == 3 and '20 tasks' in refused['refused']


def test_scaling_makes_its_devices_before_anything_touches_jax():
  """By default, in an environment that holds arrays."""
  code = """
import jax
from benchmarks import options
from benchmarks import reports
from benchmarks import scaling
from mbmpo_jax import envs

def run(env, *sizes):
  envs.make(env)
  print(env, jax.device_count())

scaling.run, reports.write = run, print
options.run(scaling.main)
"""
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=pathlib.Path(__file__).parents[1],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith(f'half_cheetah {backend.num_cores()}\n')


@pytest.mark.slow
def test_stepping_measures_every_environment_and_variant(monkeypatch):
  """Two of them; each costs a compilation."""
  monkeypatch.setattr(envs, 'names', lambda: ('point', 'swimmer'))
  monkeypatch.setattr(
    envs, 'variants', lambda name: {'point': (), 'swimmer': ('paper',)}[name]
  )
  report = throughput.run_all(num_envs=2, horizon=40, repeats=1)
  report = json.loads(json.dumps(report))
  _check_header(report, 'throughput')
  results = {result['name']: result for result in report['results']}
  assert list(results) == ['point', 'swimmer paper']
  # The point's own limit is 30 steps.
  assert results['point']['work'] == 2 * 30
  assert results['swimmer paper']['work'] == 2 * 40


@pytest.mark.slow
def test_off_policy_measures_both_updates_and_steps():
  report = json.loads(json.dumps(off_policy.run('point', 'tiny', repeats=1)))
  _check_header(report, 'off_policy')
  names = [result['name'] for result in report['results']]
  assert names == ['update', "brax's update", 'step', 'step and update']
  assert report['brax_over_ours'] > 0
  # But for the first layers' slopes by the observation, which nobody needs.
  rows, hidden, observations = 8, 8, 2
  excess = 2 * 2 * rows * hidden * observations
  assert report['does_flops'] == report['must_flops'] + excess


@pytest.mark.slow
def test_gssm_measures_fit_imagination_and_adaptation():
  report = json.loads(json.dumps(gssm.run('tiny', repeats=1)))
  _check_header(report, 'gssm')
  results = {result['name']: result for result in report['results']}
  assert list(results) == ['fit', 'imagine', 'adapt']
  # 2 contexts, 2 rollouts of each, 5 steps.
  assert results['imagine']['work'] == 2 * 2 * 5
  assert results['fit']['fractions'] and results['imagine']['fractions']
  assert set(report['context_bytes']) == {'2', '5'}
  assert set(report['gradient_bytes']) == {'2', '5'}


@pytest.mark.slow
def test_m3po_measures_updates_rollouts_rounds_and_fits():
  report = json.loads(json.dumps(m3po.run('tiny', repeats=1)))
  _check_header(report, 'm3po')
  results = {result['name']: result for result in report['results']}
  pieces = ('updates', 'rollouts', 'rounds', 'fit')
  assert list(results) == [f'{x}, L={n}' for n in (0, 3) for x in pieces]
  for length in (0, 3):
    assert results[f'updates, L={length}']['fractions']
    assert results[f'rollouts, L={length}']['work'] == 10
    assert results[f'rounds, L={length}']['work'] == 5
    assert results[f'fit, L={length}']['work'] == 4
    seconds = {x: results[f'{x}, L={length}']['median_s'] for x in pieces}
    # 1,000 rounds, and 2,000 gradient steps.
    taken = 1000 * seconds['rounds'] / 5 + 2000 * seconds['fit'] / 4
    found = report['epoch_env_steps_per_s'][f'L={length}']
    assert found == pytest.approx(1000 / taken)
  # A GRU is read besides.
  assert results['updates, L=3']['flops'] > results['updates, L=0']['flops']
