"""The contract that every algorithm keeps; a new one is tested by being named.

Each runs on the light world `point`, or one with tasks, at tiny sizes. Its
programs are compiled once and shared by the tests of this file. That it learns
is tested beside it, `test_<name>.py`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.m3po import config as m3po_config
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import loop
from mbmpo_jax.training.launch import tiny as tiny_lib
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_state
from tests import fake
from tests import runs
from tests import tiny

NAMES = algorithms.names()
# Worlds of those that need tasks.
WORLDS = {
  'gssm': 'cartpole_swingup_masses',
  'l2a': 'point_direc',
  'm3po': 'point_direc',
  'pearl': 'point_direc',
}


# Further forms of an algorithm: its name, its world, what it is given.
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
  **{
    f'gssm-{kind}': (
      'gssm',
      WORLDS['gssm'],
      {'model.kind': kind, 'policy.amortised': False},
    )
    for kind in ('mean', 'attentive', 'dropout')
  },
  'ppo-random-tasks': ('ppo', WORLDS['gssm'], {}),
  'm3po-full': ('m3po', WORLDS['m3po'], {'model_rollouts.kind': 'full'}),
  'm3po-h': ('m3po', WORLDS['m3po'], {'batches.kind': 'mixed'}),
  # MBPO, where episodes terminate and rollouts become longer.
  'mbpo': (
    'm3po',
    'cartpole',
    m3po_config.MBPO
    | {
      'env.variant': 'benchmark',
      'model.num_models': 2,
      'model.num_elites': 1,
      'model_rollouts.final_horizon': 3,
      'model_rollouts.growth_end': 30,
    },
  ),
}


def config_of(name: str) -> config_lib.Experiment:
  """Its defaults, shrunk, on a light world; two members if it has models.

  Networks have one hidden layer, which takes a fifth off the time to compile.
  What other files compile of MB-MPO is this, too.
  """
  name, env, given = VARIANTS.get(name, (name, WORLDS.get(name, 'point'), {}))
  if name == 'mbmpo':
    return tiny.point_config(run__num_iterations=3)
  config = tiny_lib.shrink(algorithms.config(name)())
  values = {
    'env.name': env,
    'collect.num_trajectories': 4,
    'collect.num_envs': 4,
    'collect.steps_per_env': 10,
    'collect.episode_length': 10,
    'collect.buffer_capacity': 100,
    'collect.start_steps': 16,
    'model.num_models': 2,
    'model_rollouts.tasks_per_model': 2,
    'run.num_iterations': 3,
    'run.eval_episodes': 2,
    'run.render': False,
    **given,
  }
  known = config_lib.flatten(config)
  values = {n: v for n, v in values.items() if n in known}
  layers = {n: v[:1] for n, v in known.items() if n.endswith('_sizes')}
  return config_lib.replaced(config, layers | values)


class Programs(NamedTuple):
  """An algorithm, and how often each of its programs was traced."""

  name: str
  config: config_lib.Experiment
  algorithm: base.Algorithm
  phases: dict[str, Any]
  traces: dict[str, int]
  start: Any
  rows: list[dict[str, Any]]
  end: Any


@pytest.fixture(
  scope='module',
  params=[
    *NAMES,
    *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS),
  ],
)
def programs(request: pytest.FixtureRequest) -> Programs:
  """After three iterations."""
  config = config_of(request.param)
  name = config.algorithm
  algorithm = algorithms.make(name, envs.from_config(config.env), config)
  traces = dict.fromkeys(algorithm.phases, 0)

  def counted(name: str, phase: base.Phase) -> Any:
    @functools.wraps(phase.function)  # By its name other files' cache is hit.
    def count(state: Any) -> Any:
      traces[name] += 1
      return phase(state)

    return jax.jit(count)

  phases = {name: counted(name, p) for name, p in algorithm.phases.items()}
  init = jax.jit(algorithm.init)
  start = state = init(jax.random.PRNGKey(0), base.hyper(config))
  rows = []
  for _ in range(3):
    row = {}
    for phase in phases.values():
      state, values = phase(state)
      row.update(values)
    rows.append(row)
  return Programs(name, config, algorithm, phases, traces, start, rows, state)


def _few(*names: str) -> pytest.MarkDecorator:
  """For all algorithms, but these alone where tests are to be fast."""
  return pytest.mark.parametrize(
    'programs',
    [
      pytest.param(name, marks=[] if name in names else pytest.mark.slow)
      for name in NAMES
    ],
    indirect=True,
  )


def test_every_program_is_traced_once(programs):
  assert set(programs.traces.values()) == {1}


def test_counters_count(programs):
  counters = programs.end.counters
  assert int(counters.iteration) == 3
  assert int(counters.env_steps) == 3 * programs.config.collect.steps
  assert int(counters.episodes) == 3 * programs.config.collect.num_envs
  assert np.any(counters.key != programs.start.counters.key)


def test_what_is_reported_is_declared_and_finite(programs):
  declared = algorithms.metrics(programs.name)
  assert programs.algorithm.metrics == declared
  for row in programs.rows:
    assert set(row) == set(declared)
    for name, value in row.items():
      assert np.shape(value) == () and np.isfinite(value), name
  for metric in declared.values():
    assert metric.text
    assert metric.over_runs in ('mean', 'sum')
    assert metric.per_second_of in ('', *programs.algorithm.phases)


def test_the_state_keeps_its_shapes(programs):
  """So that it can be carried by a loop, donated and restored."""

  def shape(x):
    return jnp.shape(x), jnp.result_type(x), getattr(x, 'weak_type', False)

  before, after = (
    jax.tree.map(shape, state) for state in (programs.start, programs.end)
  )
  assert before == after
  assert set(programs.end.hyper) == set(
    config_lib.sweepable(type(programs.config))
  )


@_few('ppo')
def test_update_is_its_phases_and_can_be_vmapped(programs, x64):
  """In float64: two runs at once, each as it is alone.

  Each algorithm's programs are compiled anew, twice, which makes it slow.
  """
  algorithm = algorithms.make(
    programs.name, envs.from_config(programs.config.env), programs.config
  )
  hyper = base.hyper(programs.config)
  init = jax.jit(jax.vmap(lambda key: algorithm.init(key, hyper)))
  starts = init(jnp.stack([jax.random.PRNGKey(seed) for seed in (0, 1)]))
  together, metrics = jax.jit(jax.vmap(algorithm.update))(starts)
  phases = [jax.jit(phase.__call__) for phase in algorithm.phases.values()]
  for index in range(2):
    state = jax.tree.map(lambda x, index=index: x[index], starts)
    row = {}
    for phase in phases:
      state, values = phase(state)
      row.update(values)
    expected, found = ((state, row), (together, metrics))
    tiny.assert_close(
      jax.tree.map(lambda x, index=index: x[index], found), expected, 1e-7
    )


def test_the_same_state_gives_the_same_numbers(programs):
  """To the bit: nothing is read but the state."""
  first = next(iter(programs.phases.values()))
  once, again = first(programs.end), first(programs.end)
  jax.tree.map(np.testing.assert_array_equal, once, again)


def test_data_from_outside_are_counted_and_kept(programs):
  algorithm, state = programs.algorithm, programs.end
  trajectory, _ = real.rollout(
    envs.from_config(programs.config.env),
    algorithm.policy,
    algorithm.policy_params(state),
    jax.random.PRNGKey(0),
    num_envs=2,
    horizon=5,
  )
  after = jax.jit(algorithm.add)(state, trajectory)
  assert int(after.counters.env_steps - state.counters.env_steps) == 10
  assert int(after.counters.episodes - state.counters.episodes) == 2


def test_numbers_that_are_not_finite_in_the_data_reach_no_parameter(programs):
  """Written past `buffer.add`, which would leave them out."""
  state = programs.end
  if not hasattr(state, 'buffer'):
    pytest.skip('it keeps no data')
  for value in (np.nan, np.inf):
    data = jax.tree.map(
      lambda x, value=value: (
        x.at[3].set(value) if jnp.issubdtype(x.dtype, jnp.floating) else x
      ),
      state.buffer.data,
    )
    spoilt = state._replace(buffer=state.buffer._replace(data=data))
    for phase in programs.phases.values():
      spoilt, metrics = phase(spoilt)
      assert all(
        np.isfinite(v) for n, v in metrics.items() if n.startswith('nonfinite/')
      )
    rest = spoilt._replace(buffer=())
    for path, leaf in jax.tree.leaves_with_path(rest):
      assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


def test_behaviour_is_a_policy_per_environment(programs):
  algorithm, state = programs.algorithm, programs.end
  if algorithm.behaviour is None:
    pytest.skip('all environments share its parameters')
  params = jax.jit(algorithm.behaviour)(state, jax.random.PRNGKey(0))
  count = programs.config.collect.num_envs
  shapes = jax.tree.map(jnp.shape, algorithm.policy_params(state))
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    lambda shape: (count, *shape),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def train(programs, workdir, progress) -> None:
  """By the host, with an algorithm whose phases are traced once for all."""
  loop.train(
    programs.config,
    workdir,
    make_algorithm=lambda env, config: programs.algorithm,
    progress=progress,
  )


@pytest.fixture(scope='module')
def trained(programs, tmp_path_factory) -> Any:
  """The folder of a whole run, by the host."""
  workdir = tmp_path_factory.mktemp(programs.name) / 'whole'
  train(programs, workdir, fake.progress_lib.Silent())
  return workdir


@_few('mbmpo', 'ppo', 'sac')
def test_a_run_that_was_cut_off_goes_on_to_the_bit(programs, trained, tmp_path):
  """As if it had not been; what it says and all that it saves."""
  first = next(iter(programs.algorithm.phases))
  with pytest.raises(RuntimeError, match='power failure'):
    train(programs, tmp_path, fake.Interrupt(2, first, fake.crash))
  resumed = fake.Interrupt(99, first, fake.crash)
  train(programs, tmp_path, resumed)
  assert resumed.done == 2
  runs.assert_same(tmp_path, trained)


@_few('mbmpo', 'ppo', 'sac')
def test_the_saved_policy_acts_as_it_did(programs, trained, tmp_path):
  """Loaded, and exported as a program."""
  policy = saved_policy.load_policy(trained, 'latest')
  assert policy.config == programs.config
  saved = saved_state.load_state(trained)
  jax.tree.map(
    np.testing.assert_array_equal,
    policy.params,
    saved.algorithm.policy_params(saved.state),
  )
  env = envs.from_config(programs.config.env)
  obs = jax.random.normal(jax.random.PRNGKey(0), (3, env.observation_size))
  carry = policy.start(jax.random.PRNGKey(1), 3)
  _, action = policy.step(carry, obs, None, None)
  assert action.shape == (3, env.action_size)
  assert np.all(np.abs(action) <= 1)
  path = tmp_path / 'policy.bin'
  saved_policy.export_policy(policy, path, platforms=('cpu',))
  assert path.stat().st_size > 0
  if not jax.tree.leaves(carry):
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    np.testing.assert_allclose(exported.call(obs), action, rtol=1e-5, atol=1e-6)


def test_a_policy_without_a_run_has_the_parameters_of_a_run(programs):
  """Which `load_policy` relies on."""
  algorithm = programs.algorithm
  new = jax.eval_shape(algorithm.policy.init, jax.random.PRNGKey(0))
  learned = jax.eval_shape(algorithm.policy_params, programs.end)
  assert jax.tree.structure(new) == jax.tree.structure(learned)
  for x, y in zip(jax.tree.leaves(new), jax.tree.leaves(learned), strict=True):
    assert (x.shape, x.dtype) == (y.shape, y.dtype)


def test_a_configuration_says_what_it_is(programs):
  kind = algorithms.config(programs.name)
  assert kind.algorithm == programs.name
  assert isinstance(programs.config, kind)
  with pytest.raises(config_lib.ConfigError):
    algorithms.make(
      programs.name,
      envs.from_config(programs.config.env),
      config_lib.Experiment(),
    )
