"""The suite of the public benchmark: its configurations, rows and claims."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import errors
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.training.figures import benchmark as figure
from mbmpo_jax.training.figures import estimate
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.launch import benchmark
from mbmpo_jax.training.launch import tiny
from mbmpo_jax.training.reporting import pace

_METHODS = (
  *('mbmpo', 'me_trpo', 'mb_mpc', 'm3po'),
  *('sac', 'ddpg', 'ppo', 'trpo', 'acktr'),
)
_MODEL_BASED = ('mbmpo', 'me_trpo', 'mb_mpc')
_LIGHT = ('pendulum',)


@pytest.mark.parametrize('world', benchmark.WORLDS)
def test_configurations_fit_their_worlds(world):
  """Whole episodes of it, and about as many transitions as are asked for."""
  env = envs.make(world, 'benchmark')
  for algorithm in _METHODS:
    made = benchmark.config(algorithm, world, transitions=50_000)
    validation.validate(made, env_max_episode_steps=env.max_episode_steps)
    assert made.algorithm == algorithm
    assert (made.env.name, made.env.variant) == (world, 'benchmark')
    assert made.collect.episode_length == env.max_episode_steps
    steps = made.run.num_iterations * made.collect.steps
    assert 50_000 <= steps < 50_000 + made.collect.steps
    validation.validate(tiny.shrink(made))


@pytest.mark.parametrize(
  'world',
  [
    world if world in _LIGHT else pytest.param(world, marks=pytest.mark.slow)
    for world in benchmark.WORLDS
  ],
)
def test_methods_with_a_model_imagine_every_world(world):
  """An iteration is traced, in which the world's own functions are imagined."""
  env = envs.make(world, 'benchmark')
  assert env.reward_is_known and env.done_is_known and env.starts_are_known
  for algorithm in _MODEL_BASED:
    made = tiny.shrink(benchmark.config(algorithm, world))
    built = algorithms.make(algorithm, env, made, check=False)

    def iteration(
      key: jax.Array,
      built: base.Algorithm = built,
      made: config_lib.Experiment = made,
    ):
      return built.update(built.init(key, base.hyper(made)))

    state, metrics = jax.eval_shape(iteration, jax.random.PRNGKey(0))
    assert state.counters.env_steps.shape == ()
    assert set(metrics) <= set(built.metrics)


def test_what_was_published_is_of_these_worlds():
  source = figure.published()
  assert set(source.returns) == set(benchmark.WORLDS)
  assert source.transitions == benchmark.TRANSITIONS
  assert {len(row) for row in source.returns.values()} == {7}
  known = {name for name in source.algorithms if name}
  assert known <= set(algorithms.names())
  assert source.of('mbmpo', 'cartpole') == (199.3, 2.3)
  assert source.of('sac', 'mountain_car') == (52.6, 0.6)
  assert source.of('acktr', 'cartpole') is None
  # Sums over all environments: means, then deviations, by method.
  means, stds = (
    [sum(row[i][part] for row in source.returns.values()) for i in range(7)]
    for part in (0, 1)
  )
  assert means == pytest.approx(
    [4623.4, 2714.8, 8109.8, -3816.0, -612.9, 14261.3, 15540.6]
  )
  assert stds == pytest.approx(
    [4105.7, 2875.1, 3683.5, 1570.6, 1913.9, 4583.6, 4797.5]
  )


@pytest.mark.parametrize('name', ['pendulm', 'point'])
def test_an_unknown_world_is_one_line(name):
  with pytest.raises(config_lib.ConfigError, match=f"'{name}' must") as error:
    benchmark.check(name, f'--envs={name}')
  assert '\n' not in str(error.value)
  assert str(error.value).startswith(f'--envs={name}')
  with pytest.raises(config_lib.ConfigError):
    benchmark.config('mbmpo', name)
  if name == 'pendulm':
    assert "did you mean 'pendulum'?" in str(error.value)


def _write(
  root: pathlib.Path, run: study.Run, value: float, done: int, more: float = 0.0
) -> None:
  """Metrics whose returns change by `more` after the third evaluation."""
  folder = root / run.name
  folder.mkdir(parents=True)
  steps = run.config.collect.steps
  rows = [
    {
      'iteration': index,
      'env_steps': (index + 1) * steps,
      'eval/return_mean': value + (more if index >= 3 else 0.0),
      'time/eval_s': 1.0,
    }
    for index in range(done)
  ]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'metrics.jsonl').write_text(text)


def test_rows_stand_beside_the_published_ones(tmp_path, capsys):
  """A method that reaches its row, one that does not, one that is under way."""
  groups = figure.groups(
    ['mbmpo', 'acktr'], ['cartpole', 'pendulum'], num_seeds=2, transitions=6000
  )
  by_name = {run.name: run for run in study.runs(groups)}
  assert sorted(by_name) == [
    f'{world}/{name}/seed={seed}'
    for world in ('cartpole', 'pendulum')
    for name in ('acktr', 'mbmpo')
    for seed in (0, 1)
  ]
  for name, value, done in (
    ('cartpole/mbmpo/seed=0', 199.0, 3),
    ('cartpole/mbmpo/seed=1', 199.2, 3),
    ('cartpole/acktr/seed=0', 90.0, 1),
    ('pendulum/mbmpo/seed=0', 20.0, 3),
    ('pendulum/mbmpo/seed=1', 20.1, 3),
  ):
    _write(tmp_path, by_name[name], value, done)
  found = study.read('full', tmp_path, groups)

  head, cartpole, pendulum = figure.table(found)
  assert head[:4] == ('world', 'ours: MB-MPO', 'ours: ACKTR', 'MB-MPO')
  assert cartpole[1].startswith('199.1 ± 0.14 (2 seeds, 6')
  assert cartpole[2] == '-'  # It is not done.
  assert cartpole[3] == '199.3 ± 2.3'
  assert pendulum[2] == '-'
  reached, missed = figure.claims(found)
  assert reached.verdict == report.HELD and 'cartpole' in reached.text
  assert missed.verdict == report.FAILED and '171.2 ± 26.9' in missed.text

  figure.show(found, tmp_path)
  said = capsys.readouterr().out
  assert '| `cartpole` | 199.1' in said and 'WilsonWangTHU/mbbl' in said
  assert 'not done: pendulum/acktr/seed=1' in said
  written = json.loads((tmp_path / 'benchmark.json').read_text())
  assert written['claims'][0]['verdict'] == report.HELD
  assert (tmp_path / 'benchmark.png').stat().st_size


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('l2a', 'l2a in reacher: env: Reacher has no task parameters'),
    ('gssm', 'gssm in reacher: env: Reacher has no task parameters'),
    ('pearl', 'pearl in reacher: env: Reacher has no task parameters'),
  ],
)
def test_what_needs_tasks_is_refused_before_anything_is_trained(name, said):
  groups = figure.groups(['sac', name], ['reacher'], num_seeds=1)
  with pytest.raises(errors.UserError, match=said) as error:
    figure.check(groups)
  assert '\n' not in str(error.value)
  figure.check(groups[:1])
  many = figure.groups(['sac'], ['reacher'], num_seeds=1, transitions=2**31 - 1)
  with pytest.raises(config_lib.ConfigError, match='sac in reacher'):
    figure.check(many)


def test_what_rounds_to_the_published_digit_reaches_it(tmp_path):
  """The published row is 0.0 ± 0.0, and every return is a cost."""
  groups = figure.groups(
    ['mbmpo'], ['inverted_pendulum'], num_seeds=2, transitions=6000
  )
  for value, verdict in ((-0.01, report.HELD), (-0.3, report.FAILED)):
    for run in study.runs(groups):
      shutil.rmtree(tmp_path / run.name, ignore_errors=True)
      _write(tmp_path, run, value, 3)
    (claim,) = figure.claims(study.read('full', tmp_path, groups))
    assert claim.verdict == verdict


def test_a_solved_run_is_done(tmp_path):
  """With --until_solved, where three evaluations reached the return."""
  groups, whole = (
    figure.groups(
      ['sac'],
      ['cartpole', 'half_cheetah'],
      num_seeds=2,
      transitions=20_000,
      until_solved=until_solved,
    )
    for until_solved in (True, False)
  )
  by_name = {run.name: run for run in study.runs(groups)}
  solved, almost, body = (
    by_name[f'{name}/sac/seed={seed}']
    for name, seed in (('cartpole', 0), ('cartpole', 1), ('half_cheetah', 0))
  )
  assert solved.config.run.solved_at == 199.0
  assert body.config.run.solved_at is None
  for run, value, done in (
    (solved, 199.0, 6),
    (almost, 198.9, 6),
    (body, 1e6, 6),
  ):
    assert run.config.run.num_iterations > 6
    _write(tmp_path, run, value, done, more=-9.0)
  missing = study.read('full', tmp_path, groups).missing
  assert len(missing) == 3 and not any(solved.name in x for x in missing)
  assert len(study.read('full', tmp_path, whole).missing) == 4

  # What made it solved is not its result.
  row = figure.table(study.read('full', tmp_path, groups))[1]
  steps = solved.config.collect.steps
  assert row[1] == f'190.0 (1 seed, {pace.count(6 * steps)})'
  alone = [group for group in groups if group.panel == 'cartpole']
  rest = almost.config.run.num_iterations
  shutil.rmtree(tmp_path / almost.name)
  _write(tmp_path, almost, 190.0, rest)
  row = figure.table(study.read('full', tmp_path, alone))[1]
  fewer, all_steps = pace.count(6 * steps), pace.count(rest * steps)
  assert row[1] == f'190.0 ± 0 (2 seeds, {fewer} to {all_steps})'
  shutil.rmtree(tmp_path / almost.name)
  _write(tmp_path, almost, 198.9, 6)

  def left(runs: list[study.Run]) -> float:
    return estimate.seconds_left(runs, tmp_path, lambda config: 100.0)

  assert left([solved]) == 0 < left([almost])


def test_the_run_without_an_evaluation_is_named(tmp_path):
  """It is the second; the first has not begun."""
  (group,) = figure.groups(['sac'], ['reacher'], num_seeds=2, transitions=6000)
  run = group.runs[1]
  _write(tmp_path, run, float('nan'), run.config.run.num_iterations)
  (found,) = study.read('full', tmp_path, [group]).groups
  assert found.lacks == f'{run.name} has no finite evaluation'


def test_nothing_is_drawn_of_nothing(tmp_path, capsys):
  groups = figure.groups(['sac'], ['reacher'], num_seeds=1)
  figure.show(study.read('full', tmp_path, groups), tmp_path)
  assert 'is undecided: no run of it is done' in capsys.readouterr().out
  assert not (tmp_path / 'benchmark.png').exists()


def test_environments_that_initialise_jax_are_trained(tmp_path):
  """In a process of its own: JAX is initialised once, with its devices."""
  script = (
    'import pathlib\n'
    'from mbmpo_jax.training.commands import benchmark_suite\n'
    'from mbmpo_jax.training.figures import make\n'
    'def trained(*args, **options):\n'
    "  raise SystemExit('trained')\n"
    'make.make = trained\n'
    'benchmark_suite.main(benchmark_suite.Arguments(\n'
    "  ('mbmpo',), ('inverted_pendulum',), 1, 1000, False, True,\n"
    f'  pathlib.Path({str(tmp_path)!r}), False))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=pathlib.Path(__file__).parents[1],
    # The flags of the tests set the number of devices.
    env={k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stderr.splitlines()[-1] == 'trained', done.stderr
