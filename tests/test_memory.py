"""What does not fit into memory is refused, before anything is compiled."""

import operator
import pathlib
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.models import permutations
from mbmpo_jax.policies import gaussian
from mbmpo_jax.training import evaluate
from mbmpo_jax.training import footprint
from mbmpo_jax.training import iteration
from mbmpo_jax.training import loop
from mbmpo_jax.training import memory
from mbmpo_jax.training.reporting import progress as progress_lib
from tests import fake
from tests import runs
from tests import tiny

_MB = 10**6


def _footprint(function, *args, donate=()) -> int:
  jitted = jax.jit(function, donate_argnums=donate)
  jaxpr = jitted.trace(*args).jaxpr
  return footprint.of_program(jaxpr, [i in donate for i in range(len(args))])


# --- the estimate


_ROWS = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)


@pytest.mark.parametrize(
  ('function', 'donate', 'arrays'),
  [
    (lambda x: x + 1, (), 2),
    (lambda x: jnp.where(x > 1, jnp.tanh(x) + 1, x * 2), (), 2),  # fused
    (lambda x: x + 1, (0,), 1),  # in place
    (lambda x: jnp.sum(jnp.exp(x)), (), 1),
    (lambda x: jnp.sum((x + 1) @ x), (), 3),  # a product reads what is stored
    (lambda x: x.at[0].set(1.0), (0,), 1),
    (lambda x: x.at[0].set(1.0), (), 2),
    (lambda x: jax.lax.fori_loop(0, 9, lambda _, y: y + 1, x), (0,), 1),
    (
      lambda x: jax.lax.scan(lambda y, _: (y, y), x, None, length=20)[1],
      (),
      21,
    ),
    (lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x), (), 2),
    (
      lambda x: jax.lax.platform_dependent(
        x, cpu=lambda x: x[0], default=lambda x: (x @ x @ x)[0]
      ),
      (),
      1,
    ),
  ],
)
def test_what_is_live_at_once_is_counted(function, donate, arrays):
  """In arrays of 4 MB, but for a few numbers."""
  found = _footprint(function, _ROWS, donate=donate)
  np.testing.assert_allclose(found / (4 * _MB), arrays, atol=0.05)


def test_the_estimate_is_near_what_xla_needs():
  """Of the fit, whose buffers XLA knows once it is compiled."""
  config = tiny.point_config(collect__buffer_capacity=50_000)
  made = _build(config)
  fit = made._timed['fit']
  state = made._abstract.state
  estimate = fit.footprint(state)
  fit.compile(state)
  assert 0.5 < estimate / fit.extra_bytes < 3
  assert made.footprints('state')['state'] > 50_000 * 36


# --- the refusal


def _build(config: config_lib.Experiment) -> iteration.Iteration:
  env = envs.make(config.env.name)
  algorithm = loop.make(None, env, config)
  return iteration.Iteration(env, config, algorithm, progress_lib.Silent())


@pytest.mark.parametrize(
  ('name', 'field', 'value', 'part'),
  [
    ('mb_mpc', 'collect.buffer_capacity', 10**8, 'fit'),
    pytest.param(
      'mbmpo',
      'collect.num_trajectories',
      5 * 10**5,
      'collect',
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'mbmpo',
      'model_rollouts.rollouts_per_task',
      10**6,
      'improve',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_what_cannot_fit_is_refused_with_what_would(
  name, field, value, part, monkeypatch
):
  """The field that was made too large; the value given is accepted."""
  there = memory.Room(6 * 10**8, 'as the test says')
  monkeypatch.setattr(memory, 'room', lambda: there)
  capacity = 5 * 10**6 if part == 'collect' else 100
  config = tiny.of(name, collect__buffer_capacity=capacity)
  config = config_lib.replaced(config, {field: value})
  validation.validate(config)
  with pytest.raises(memory.OutOfMemoryError) as refused:
    memory.check(config, _build)
  said = str(refused.value)
  assert '\n' not in said
  assert said.startswith(f'{field}={value!r}: the run needs about ')
  left = 'but 0.6 GB are available (as the test says); '
  assert f' while {part} runs, {left}' in said
  fits = said.rpartition('; ')[2].removesuffix(' would fit')
  named, _, number = fits.partition('=')
  assert named == field
  smaller = config_lib.replaced(config, {field: eval(number)})
  memory.check(smaller, _build)
  assert operator.attrgetter(field)(smaller) < value


def test_a_run_that_cannot_fit_writes_nothing(tmp_path, monkeypatch):
  """Nor is anything compiled."""
  monkeypatch.setattr(memory, 'room', lambda: memory.Room(10**5, 'the test'))
  config = config_lib.replaced(
    algorithms.config('ddpg')(),
    {
      'env.name': 'point',
      'collect.episode_length': 10,
      'collect.buffer_capacity': 10**7,
    },
  )
  with pytest.raises(memory.OutOfMemoryError, match='buffer_capacity'):
    loop.train(config, tmp_path / 'run', progress=progress_lib.Silent())
  assert not (tmp_path / 'run').exists()


def test_limits_of_a_process_count(monkeypatch):
  """The least of them, less what is used already."""
  before = memory.room()
  assert before is not None and before.size > 0
  limits = {resource.RLIMIT_AS: 10**15, resource.RLIMIT_DATA: 10}
  monkeypatch.setattr(
    resource, 'getrlimit', lambda kind: (limits[kind], limits[kind])
  )
  assert memory.room() == memory.Room(0, 'data, ulimit -d')
  limits[resource.RLIMIT_DATA] = resource.RLIM_INFINITY
  found = memory.room()
  assert found is not None and found.size < 10**13


def test_a_control_group_limits_what_is_in_it(tmp_path):
  """What the kernel keeps of files is given up, and so counts as free."""
  (tmp_path / 'memory.max').write_text('1000\n')
  (tmp_path / 'memory.current').write_text('700\n')
  (tmp_path / 'memory.stat').write_text('anon 5\ninactive_file 100\n')
  found = memory._of_group(tmp_path, 'memory.max', 'memory.current')
  assert found.size == 400
  (tmp_path / 'memory.max').write_text('max\n')
  with pytest.raises(ValueError, match='invalid literal'):
    memory._of_group(tmp_path, 'memory.max', 'memory.current')


def test_a_compiled_program_that_is_larger_is_refused(monkeypatch):
  """By what XLA then knows."""
  there = memory.Room(10**9, 'the test')
  monkeypatch.setattr(memory, 'room', lambda: there)
  config = tiny.point_config()
  memory.check_program('fit', 10**9, config)
  with pytest.raises(memory.OutOfMemoryError, match='fit: needs') as e:
    memory.check_program('fit', 11 * 10**8, config)
  assert 'model_rollouts.rollouts_per_task' in str(e.value)


# --- memory that runs out all the same


_LATE = """
import sys, resource
sys.path.insert(0, {root!r})
import jax
from mbmpo_jax.training import loop, memory
from mbmpo_jax.training.launch import flags
from tests import tiny
memory.check = lambda config, build, copies=1: build(config)
config = tiny.point_config(collect__buffer_capacity=10**8)
jax.devices()
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 25 * 10**8,) * 2)
with flags.one_line_errors():
  loop.train(config, {workdir!r})
"""


def test_memory_that_runs_out_ends_the_program_in_one_line(tmp_path):
  """The allocation fails where nobody looks; it never hangs."""
  program = _LATE.format(root=str(runs.ROOT), workdir=str(tmp_path / 'run'))
  done = subprocess.run(
    [sys.executable, '-c', program],
    env=runs.environment(),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 2
  # A slow machine also says what it is doing.
  *slow, line = done.stderr.splitlines()
  assert slow in ([], ['preparing the state ...'])
  assert line.startswith('error: out of memory')
  assert 'RESOURCE_EXHAUSTED' in line


def test_errors_of_xla_are_told_apart():
  """Only want of memory is said so."""
  with pytest.raises(memory.OutOfMemoryError), memory.explained():
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 5 bytes')
  with pytest.raises(memory.OutOfMemoryError), memory.explained():
    raise MemoryError
  with pytest.raises(jax.errors.JaxRuntimeError), memory.explained():
    raise jax.errors.JaxRuntimeError('INTERNAL: a fault')


# --- work that follows what there is


def test_many_episodes_are_evaluated_in_turn(monkeypatch):
  """As many as asked for, and one program, however many there are."""
  env = envs.make('point')
  policy = gaussian.make(2, 2, tiny.point_config().policy)
  params = policy.init(jax.random.PRNGKey(0))

  def run(num_episodes: int):
    return evaluate.make_evaluate(
      env, policy, num_episodes=num_episodes, episode_length=10
    )

  key = jax.random.PRNGKey(1)
  whole = run(7)(params, key)
  monkeypatch.setattr(evaluate, '_AT_ONCE', 10 * 18 * 3)
  split = run(7)(params, key)
  assert split['eval/length_mean'] == whole['eval/length_mean'] == 10
  assert split['eval/return_mean'] != whole['eval/return_mean']
  np.testing.assert_allclose(
    split['eval/return_mean'], whole['eval/return_mean'], rtol=0.5
  )
  monkeypatch.undo()
  needs = [
    _footprint(run(count), params, key) for count in (300_000, 1_000_000)
  ]
  assert needs[1] - needs[0] < 100 * 700_000
  assert needs[1] < 2e9


def test_a_large_table_costs_what_is_filled(monkeypatch):
  """The same rows are drawn from it, and full it is as it was."""
  monkeypatch.setattr(permutations, '_LARGE', 64)
  assert permutations.sizes(64) == [64]
  assert permutations.sizes(1000) == [8, 64, 512, 1000]
  key = jax.random.PRNGKey(0)
  order = permutations.prefix_permutation(key, jnp.int32(7), 1000)
  assert sorted(order[:7].tolist()) == list(range(7))
  full = permutations.prefix_permutation(key, jnp.int32(1000), 1000)
  whole = permutations.permutation(key, jnp.ones(1000, bool))
  np.testing.assert_array_equal(full, whole)
  # Only a branch for so few is taken: the sort of all is in none of these.
  taken = permutations.by_size(
    lambda size: jnp.int32(size), jnp.int32(9), permutations.sizes(1000)
  )
  assert taken == 64
  for count, size in ((0, 8), (8, 8), (9, 64), (512, 512), (513, 1000)):
    found = permutations.by_size(
      jnp.int32, jnp.int32(count), permutations.sizes(1000)
    )
    assert found == size


@pytest.mark.slow
def test_a_fit_of_a_large_buffer_is_that_of_a_small_one(monkeypatch):
  """But for the order of the rows: statistics, counts, what is learned."""
  results = []
  for large in (2**18, 64):
    monkeypatch.setattr(permutations, '_LARGE', large)
    config = tiny.point_config(collect__buffer_capacity=600)
    env = envs.make('point')
    algorithm = loop.make(None, env, config)
    saved = iteration.start(
      algorithm,
      jax.random.PRNGKey(0),
      fake.base.hyper(config),
      jax.sharding.SingleDeviceSharding(jax.devices()[0]),
    )
    state, _ = jax.jit(algorithm.phases['collect'].function)(saved.state)
    results.append(jax.jit(algorithm.phases['fit'].function)(state))
  (_, old), (_, new) = results
  np.testing.assert_allclose(
    old['model/val_loss'], new['model/val_loss'], rtol=0.5
  )
  assert old['model/gradient_steps'] == new['model/gradient_steps']
  assert new['nonfinite/stored'] == 0


def test_the_best_of_equals_is_not_lucky(tmp_path: pathlib.Path) -> None:
  """Policies that are all the same: the best is what any of them reaches.

  The greatest of ten evaluations of four episodes each is 1.5 deviations
  above their mean.
  """
  config = tiny.point_config(run__num_iterations=12)

  def make(env, config, mesh=None):
    algorithm = fake.make(env, config, mesh)
    start = algorithm.init(jax.random.PRNGKey(0), fake.base.hyper(config))
    return algorithm._replace(policy_params=lambda state: start.weights)

  row = loop.train(
    config, tmp_path, make_algorithm=make, progress=progress_lib.Silent()
  )
  play = evaluate.make_evaluate(
    envs.make('point'),
    make(envs.make('point'), config).policy,
    num_episodes=4000,
    episode_length=10,
  )
  algorithm = make(envs.make('point'), config)
  start = algorithm.init(jax.random.PRNGKey(0), fake.base.hyper(config))
  truth = play(start.weights, jax.random.PRNGKey(9))
  above = row['eval/best_return'] - truth['eval/return_mean']
  assert abs(above) < 3 * row['eval/best_error']
  assert row['eval/best_error'] < truth['eval/return_std'] / 3
