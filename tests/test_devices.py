"""A mesh of eight simulated devices does what one does, each its eighth."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import flops
from mbmpo_jax import algorithms
from mbmpo_jax import backend
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.models import early_stopping
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration
from mbmpo_jax.training import timing
from mbmpo_jax.training.reporting import progress
from tests import tiny

# Tells the rollouts' loops from all others in the compiled program.
_HORIZON = 7
# Compiling is all these tests would wait for.
_QUICKLY = {
  'xla_backend_optimization_level': 0,
  'xla_llvm_disable_expensive_passes': True,
}


def _config(
  num_models: int = 4, tasks_per_model: int = 2
) -> config_lib.Experiment:
  return tiny.point_config(
    model__num_models=num_models,
    model_rollouts__tasks_per_model=tasks_per_model,
    model_rollouts__horizon=_HORIZON,
    model_rollouts__buffer_starts=0.5,
    meta__max_inner_kl=1e-7,
    collect__num_trajectories=num_models * tasks_per_model,
  )


@dataclasses.dataclass
class Run:
  """Two iterations, and the programs that made them."""

  algorithm: base.Algorithm
  programs: dict[str, jax.stages.Compiled]
  states: list
  metrics: list[types.Metrics]


def _make(
  mesh: jax.sharding.Mesh | None = None,
  config: config_lib.Experiment | None = None,
) -> base.Algorithm:
  config, env = config or _config(), envs.make('point')
  return algorithms.make('mbmpo', env, config, mesh=mesh, check=False)


def _run(mesh: jax.sharding.Mesh | None) -> Run:
  algorithm, home = _make(mesh), devices.replicated(mesh)
  start = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(_config()))
  state = jax.device_put(start, home)
  run = Run(algorithm, {}, [state], [])
  options = _QUICKLY | backend.compiler_options(home)
  for _ in range(2):
    metrics = {}
    for name, phase in algorithm.phases.items():
      if name not in run.programs:
        jitted = jax.jit(phase.function)
        run.programs[name] = jitted.lower(state).compile(options)
      state, values = run.programs[name](state)
      metrics |= values
    run.states.append(state)
    run.metrics.append(metrics)
  return run


@pytest.fixture(scope='module')
def one() -> Run:
  with jax.enable_x64(True):
    return _run(None)


@pytest.fixture(scope='module')
def eight() -> Run:
  with jax.enable_x64(True):
    return _run(devices.make_mesh(_config(), 8))


def test_eight_devices_do_what_one_does(one, eight, x64):
  """Policy, models, buffer, keys and metrics, after each of two iterations.

  The programs would refuse the second if a state came out lying differently.
  """
  assert eight.metrics[-1]['policy/std'].sharding.device_set == set(
    jax.devices()[:8]
  )
  tiny.assert_close(eight.states, one.states)
  tiny.assert_close(eight.metrics, one.metrics)
  assert one.metrics[-1]['meta/accept_rate'] > 0


@pytest.mark.slow
def test_all_tasks_and_members_at_once_do_what_they_do_in_turn(
  one, x64, monkeypatch
):
  """The phases as other platforms than a CPU compile them."""
  chosen = []

  def at_once(in_turn, at_once, *args):
    chosen.append(in_turn)
    return at_once(*args)

  monkeypatch.setattr(backend, 'in_turn_or_at_once', at_once)
  state, metrics = one.states[1], {}
  for phase in _make().phases.values():
    before = len(chosen)
    jitted = jax.jit(phase.function, compiler_options=_QUICKLY)
    state, values = jitted(state)
    metrics |= values
    assert len(chosen) > before
  tiny.assert_close(state, one.states[2])
  tiny.assert_close(metrics, one.metrics[1])


def test_rejected_tasks_are_rejected_on_every_device(one, eight, x64):
  """Those of a member that is not finite are all on two of the devices."""

  def improve(run: Run):
    state = run.states[-1]
    (weight, bias), *layers = state.model.layers
    layers = ((weight.at[1].set(jnp.nan), bias), *layers)
    state = state._replace(model=state.model._replace(layers=layers))
    state, metrics = run.programs['improve'](state)
    return state.policy, metrics

  policy, metrics = improve(eight)
  assert metrics['meta/rejected_tasks'] == 2
  assert metrics['meta/accept_rate'] > 0
  tiny.assert_close((policy, metrics), improve(one))


@pytest.mark.slow
def test_a_device_does_an_eighth_of_the_products(one, eight, x64):
  """In improve, with the trip counts of the one."""
  whole, share = (
    flops.matmul_flops(run.algorithm.phases['improve'], run.states[-1])
    for run in (one, eight)
  )
  assert whole / 8 <= share <= 1.15 * whole / 8


def test_shares_of_all_devices_are_the_whole():
  """Of the members' tasks, on 4 x 2 devices; none of it twice or elsewhere."""
  mesh = devices.make_mesh(_config(), 8)
  numbers = jnp.arange(4.0 * 6 * 3).reshape(4, 6, 3)

  def there_and_back(x):
    share = parallel.own(mesh, x, parallel.BY_TASK)
    assert share.shape == (1, 3, 3)
    return parallel.whole(mesh, share, parallel.BY_TASK)

  result = parallel.share_out(
    there_and_back,
    mesh=mesh,
    in_specs=parallel.REPLICATED,
    out_specs=parallel.REPLICATED,
  )(numbers)
  for copy in result.addressable_shards:
    np.testing.assert_array_equal(copy.data, numbers)
  assert parallel.whole(None, numbers, parallel.BY_TASK) is numbers


@pytest.mark.slow
def test_meta_steps_stop_together_on_all_devices(x64):
  """After the same validation, and keep the same policy as one device."""
  config = config_lib.replaced(
    _config(),
    {
      'meta.stopping': 'validation',
      'meta.num_meta_steps': 3,
      'meta.validate_every': 1,
      'meta.patience': 1,
      'meta.worsened_fraction': 0.5,
      'trust_region.max_kl': 0.3,
      'model_rollouts.buffer_starts': 0.0,
    },
  )
  mesh = devices.make_mesh(config, 8)
  alone, shared = (_make(mesh, config) for mesh in (None, mesh))
  state = jax.jit(alone.init)(jax.random.PRNGKey(0), base.hyper(config))
  one, eight = (
    jax.jit(algorithm.phases['improve'].function, compiler_options=_QUICKLY)
    for algorithm in (alone, shared)
  )
  stopped = []
  for seed in range(4):
    counters = state.counters._replace(key=jax.random.PRNGKey(seed))
    state = state._replace(counters=counters)
    expected = one(state)
    stopped.append(int(expected[1]['meta/kept_step']))
    placed = jax.device_put(state, devices.replicated(mesh))
    tiny.assert_close(eight(placed), expected)
  assert len(set(stopped)) > 1


_COLLECTIVE = re.compile(
  r' (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)'
  r'(?:-start)?\('
)


class Program:
  """What calls what in the text of a compiled program."""

  def __init__(self, text: str) -> None:
    self.lines: dict[str, list[str]] = {}
    for line in text.splitlines():
      if not line.startswith((' ', '}')) and line.endswith('{'):
        name = line.removeprefix('ENTRY ').split(' ')[0]
        self.lines[name] = []
      elif line.startswith(' '):
        self.lines[name].append(line)

  def collectives(self, name: str) -> list[str]:
    """In a computation and all that it calls, each as often as called."""
    found = []
    for line in self.lines[name]:
      found += _COLLECTIVE.findall(line)
      for called in re.findall(r'%[\w.\-]+', line.partition('(')[2]):
        if called in self.lines:
          found += self.collectives(called)
    return found

  def loops(self, trips: int | None) -> list[str]:
    """The bodies of the loops that run so many times, or nobody knows how."""
    wanted = [] if trips is None else [str(trips)]
    return [
      re.search(r'body=(%[\w.\-]+)', line)[1]
      for lines in self.lines.values()
      for line in lines
      if ' while(' in line
      and re.findall(r'"known_trip_count":{"n":"(\d+)"}', line) == wanted
    ]


def test_devices_meet_rarely_and_never_in_a_rollout(eight):
  """Once per gradient, curvature product and step length tried.

  And for the tasks' weights and the metrics. The last iteration of conjugate
  gradients is outside of their loop; XLA may merge its sum with the metrics'.
  """
  text = eight.programs['improve'].as_text()
  program = Program(text)
  (entry,) = re.findall(r'^ENTRY (%[\w.\-]+)', text, re.MULTILINE)
  everywhere = program.collectives(entry)
  assert everywhere == ['all-reduce'] * len(everywhere)

  rollouts = program.loops(_HORIZON)
  assert len(rollouts) >= 2
  for body in rollouts:
    assert program.collectives(body) == []
  (products,) = program.loops(_config().trust_region.cg_iterations - 1)
  assert program.collectives(products) == ['all-reduce']
  # Of the loops that end by a condition, one is the line search.
  open_ended = map(program.collectives, program.loops(None))
  assert [found for found in open_ended if found] == [['all-reduce']]
  # Weights, gradient, the last product, metrics.
  assert 3 <= len(everywhere) - 2 <= 4


def test_members_stop_on_their_own_and_uneven_batches_divide(x64):
  """Two devices per pair of members, 33 rows over them, early stopping."""
  rng = np.random.default_rng(0)
  inputs = jnp.asarray(rng.normal(size=(120, 4)))
  targets = jnp.sin(2 * inputs[:, :2]) + 0.5 * rng.normal(size=(120, 2))
  section = config_lib.Ensemble(num_models=4, hidden_sizes=(16,))
  dynamics = ensemble.make(envs.make('point'), section)
  optimizer = optax.adam(1e-2)
  start = fit_lib.init(dynamics, optimizer, jax.random.PRNGKey(0))

  def fit(mesh):
    def members(params, state):
      return early_stopping.train(
        params, state, inputs, targets, jnp.arange(120) < 111,
        jax.random.PRNGKey(1), loss=dynamics.loss, optimizer=optimizer,
        batch_size=33, validation_fraction=0.2, max_epochs=40,
        rolling_persistence=0.5, mesh=mesh,
      )  # fmt: skip

    return jax.jit(
      parallel.share_out(
        members,
        mesh=mesh,
        in_specs=parallel.BY_MODEL,
        out_specs=parallel.BY_MODEL,
      )
    )(*start)

  *_, info = fit(_mesh(2, 2))
  *_, expected = fit(None)
  np.testing.assert_array_equal(info.epochs, expected.epochs)
  assert len(set(expected.epochs.tolist())) > 2
  tiny.assert_close(fit(_mesh(2, 2)), fit(None))


def _mesh(models: int, tasks: int) -> jax.sharding.Mesh:
  return devices.make_mesh(_config(models, tasks), models * tasks)


@pytest.mark.parametrize('num_envs', [8, 6])
def test_environments_divide_or_every_device_steps_all(num_envs):
  """Exactly the same, restarts and what a policy begins with included."""

  def start(params, key, context, num):
    del params, context
    return jax.random.normal(key, (num,))

  def act(params, carry, obs, noise):
    del params, noise
    raw = jnp.broadcast_to(carry[:, None], (*carry.shape, 1))
    return carry, policies.Action(raw, jnp.tanh(raw), jnp.zeros(obs.shape[0]))

  def rollout(mesh):
    rollout = functools.partial(
      real.rollout,
      tiny.Countdown(),
      tiny.NO_OP._replace(start=start, act=act),
      (),
      num_envs=num_envs,
      horizon=9,
      mesh=mesh,
    )
    return jax.jit(rollout)(jax.random.PRNGKey(1))

  shared, whole = rollout(_mesh(4, 2)), rollout(None)
  jax.tree.map(np.testing.assert_array_equal, shared, whole)
  assert len(np.unique(whole[0].action)) > num_envs  # New ones at restarts.


@pytest.mark.parametrize(
  ('num_models', 'tasks', 'count', 'shape'),
  [(4, 2, 8, (4, 2)), (6, 4, 8, (2, 4)), (5, 4, 4, (1, 4)), (1, 8, 8, (1, 8))],
)
def test_mesh_puts_members_first(num_models, tasks, count, shape):
  mesh = devices.make_mesh(_config(num_models, tasks), count)
  assert mesh.axis_names == ('models', 'tasks')
  assert mesh.devices.shape == shape
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
  parallel.check(mesh, num_models=num_models, tasks_per_model=tasks)


@pytest.mark.parametrize(
  ('num_models', 'tasks', 'cores', 'count'),
  [(5, 4, 1, 1), (5, 4, 2, 2), (5, 4, 3, 2), (5, 4, 16, 10), (1, 1, 8, 1)],
)
def test_a_cpu_has_a_device_per_core_as_far_as_tasks_divide(
  num_models, tasks, cores, count, monkeypatch
):
  own = set(range(cores))
  monkeypatch.setattr('os.sched_getaffinity', lambda pid: own, raising=False)
  config = _config(num_models, tasks)
  assert devices.divide_cores(config) == count
  assert devices.divide_cores_by_run(num_models * tasks) == count
  config.env.physics = 'warp'
  assert devices.divide_cores(config) == 1


@pytest.mark.parametrize(
  ('num_models', 'count', 'fits'), [(5, 1, False), (5, 4, True), (5, 5, False)]
)
def test_one_device_fits_unless_others_have_members(num_models, count, fits):
  mesh = devices.make_mesh(_config(num_models, 4), count)
  config = _config(num_models, 4)
  config.collect.buffer_capacity = 1000
  algorithm = _make(mesh, config)
  alone = [n for n, p in algorithm.phases.items() if p.alone is not None]
  assert alone == ['fit'] * fits


@pytest.mark.slow
def test_an_iteration_fits_on_one_device_what_all_do(x64, monkeypatch):
  """And its other phases find the state where they share it out.

  A phase is compiled for the devices that run it.
  """
  seen: list[int] = []
  compiled: list[dict] = []

  class Seen(timing.Timed):
    def __init__(self, function, **options):
      compiled.append(options['compiler_options'])
      super().__init__(function, **options)

    def __call__(self, *args):
      seen.append(len(jax.tree.leaves(args)[0].sharding.device_set))
      return super().__call__(*args)

  monkeypatch.setattr(timing, 'Timed', Seen)
  monkeypatch.setattr('os.sched_getaffinity', lambda _: {0, 1}, raising=False)
  config, env = _config(1, 2), envs.make('point')

  def run(count: int) -> tuple[iteration.Saved, list[str]]:
    mesh = devices.make_mesh(config, count)
    algorithm = _make(mesh, config)
    key, home = jax.random.PRNGKey(0), devices.replicated(mesh)
    saved = iteration.start(algorithm, key, base.hyper(config), home)
    shared = [
      name
      for name, phase in iteration.phases(algorithm, mesh=mesh).items()
      if 'shard_map' in str(jax.make_jaxpr(phase.function)(saved.state))
    ]
    run = iteration.Iteration(
      env,
      config,
      algorithm,
      progress.Silent(),
      mesh=mesh,
    )
    for index in range(2):
      saved, _ = run(saved, index)
    assert saved.policy['log_std'].sharding == home
    return saved, shared

  (alone, _), _ = run(1), seen.clear()
  assert compiled == 4 * [{}]
  shared, names = run(2)
  assert [bool(options) for options in compiled[4:]] == [
    True,
    False,
    True,
    True,
  ]
  assert seen == 2 * [2, 1, 2, 2]  # collect, fit, improve, evaluate
  assert names == ['collect', 'improve']
  tiny.assert_close(shared, alone)


@pytest.mark.parametrize(
  ('count', 'cores', 'sparing'),
  [(1, 1, False), (1, 2, False), (2, 2, True), (4, 2, True), (2, 4, False)],
)
def test_programs_spare_memory_where_every_core_is_a_device(
  count, cores, sparing, monkeypatch
):
  own = set(range(cores))
  monkeypatch.setattr('os.sched_getaffinity', lambda _: own, raising=False)
  home = devices.replicated(devices.make_mesh(_config(), count))
  options = backend.compiler_options(home)
  assert bool(options) == sparing
  jax.jit(jnp.sin, compiler_options=options)(jax.device_put(1.0, home))


def test_one_device_needs_no_mesh():
  assert devices.make_mesh(_config(), 1) is None


def test_work_that_is_not_shared_out_is_for_one_device():
  """Whatever there is; more are refused if they are asked for."""
  config = config_lib.Experiment()
  assert devices.make_mesh(config) is None
  assert devices.divide_cores(config) == 1
  with pytest.raises(devices.DeviceError, match='num_devices=2: must be 1'):
    devices.make_mesh(config, 2)


@pytest.mark.parametrize(
  ('config', 'count', 'said'),
  [
    (
      _config(5, 4),
      8,
      r'--num_devices=8: does not divide 20 tasks, .*num_models=5'
      r' .*tasks_per_model=4: must be one of 1, 2, 4, 5, or'
      r' model_rollouts.tasks_per_model must be a multiple of 8',
    ),
    (_config(6, 2), 8, 'one of 1, 2, 3, 4, 6, or .*a multiple of 4'),
    (_config(), 1000, r'--num_devices=1000: must be within \[1, 8\]'),
  ],
)
def test_uneven_split_is_refused_with_the_sizes_that_fit(config, count, said):
  with pytest.raises(devices.DeviceError, match=said) as error:
    devices.make_mesh(config, count)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('shape', 'names', 'said'),
  [
    ((8, 1), parallel.AXES, 'model.num_models=4: must be a multiple of 8'),
    ((1, 8), parallel.AXES, 'tasks_per_model=2: must be a multiple of 8'),
    ((4, 2), ('tasks', 'models'), 'axes'),
  ],
)
def test_a_mesh_of_ones_own_must_fit(shape, names, said):
  mesh = jax.sharding.Mesh(np.reshape(jax.devices()[:8], shape), names)
  with pytest.raises(config_lib.ConfigError, match=said):
    _make(mesh)
