"""What is measured of a run in tasks that it has not seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.models import normalizer
from mbmpo_jax.training.figures import task_pools
from mbmpo_jax.training.figures import unseen_tasks
from mbmpo_jax.training.launch import tiny as tiny_lib
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import saved_state
from tests import test_gssm

_SIZES = task_pools.Sizes(context=5, targets=6, episodes=1, tasks=3)


@pytest.fixture(scope='module')
def run() -> saved_state.SavedState:
  return begun()


def begun(**values) -> saved_state.SavedState:
  """GSSM with what it began with."""
  config: Any = test_gssm.tiny_config(**values)
  algorithm = algorithms.make('gssm', envs.make(config.env.name), config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  return saved_state.SavedState(config, algorithm, state, 0)


@pytest.fixture(scope='module')
def pools(run) -> task_pools.Pools:
  return task_pools.make_pools(run, _SIZES, jax.random.PRNGKey(1))


def test_pools_are_transitions_of_their_tasks(run, pools):
  """Of as many tasks; the world of each says so. Half of it is random."""
  family = envs.family_of(envs.make(run.config.env.name), 'test')
  tasks = task_pools.test_tasks(family, _SIZES)
  advance = jax.jit(
    lambda task, *steps: jax.vmap(envs.fixed(family, task).advance)(*steps)
  )
  for part, num in zip(pools, (5, 6), strict=True):
    assert part.obs.shape == (3, num, 4)
    for index in range(3):
      task = jax.tree.map(lambda x, i=index: x[i], tasks)
      found = advance(task, part.obs[index], part.action[index])
      np.testing.assert_allclose(
        found, part.next_obs[index], rtol=1e-4, atol=1e-5
      )
  # The policy begins with little force; random actions are not little.
  size = np.abs(pools.targets.action[:, :, 0])
  assert size[:, :3].max() > 0.1 > size[:, 3:].max()


def motionless(run: saved_state.SavedState) -> saved_state.SavedState:
  """The same with a model whose change is always 0."""
  zero = jax.tree.map(jnp.zeros_like, run.state.model)
  wide = jnp.full_like(zero.statistics.low, 1e6)
  zero = zero._replace(
    statistics=zero.statistics._replace(low=-wide, high=wide)
  )
  return run._replace(state=run.state._replace(model=zero))


def test_errors_by_hand(run, pools):
  """A model whose change is always 0 is wrong by the change itself."""
  still = motionless(run)
  found = unseen_tasks.errors(
    still, pools, jax.random.PRNGKey(0), points=5, scale=2.0
  )
  change = np.asarray(pools.targets.next_obs - pools.targets.obs, float)
  np.testing.assert_allclose(found, np.mean(change**2 / 4, (1, 2)), rtol=1e-4)


def test_an_error_is_no_larger_where_an_angle_is_cut():
  """A fifth of a radian over the cut, in one of four numbers."""
  still = motionless(begun(env__name='acrobot', improve__kind='ppo'))
  pools = task_pools.make_pools(still, _SIZES, jax.random.PRNGKey(1))
  obs = jnp.zeros_like(pools.targets.obs)
  targets = pools.targets._replace(
    obs=obs.at[..., 0].set(jnp.pi - 0.1),
    next_obs=obs.at[..., 0].set(0.1 - jnp.pi),
  )
  found = unseen_tasks.errors(
    still, pools._replace(targets=targets), jax.random.PRNGKey(0), points=5
  )
  np.testing.assert_allclose(found, 0.2**2 / 4, rtol=1e-4)


def test_contexts_of_another_task_and_fewer_points(run, pools):
  """Only the context is another: of a pool of one task it makes no change."""
  key = jax.random.PRNGKey(0)
  of = jax.jit(
    lambda points, shift: unseen_tasks.errors(
      run, pools, key, points=points, shift=shift
    )
  )
  own = of(5, 0)
  assert own.shape == (3,) and np.all(np.isfinite(own))
  np.testing.assert_array_equal(of(5, 3), own)
  assert np.any(of(5, 1) != own) and np.any(of(1, 0) != own)


def test_pools_and_what_was_found_are_kept(tmp_path, run, pools, monkeypatch):
  """Made once; anew where sizes, run, checkpoint or version are others."""
  loaded = []

  def load(folder):
    loaded.append(folder)
    return run

  monkeypatch.setattr(saved_state, 'load_state', load)
  monkeypatch.setattr(task_pools, 'make_pools', lambda *args: pools)
  found = [
    task_pools.kept_pools(tmp_path / 'pools.npz', tmp_path, _SIZES)
    for _ in range(2)
  ]
  assert len(loaded) == 1 and found[0].digest == found[1].digest
  # Another size, another run and another checkpoint.
  for run_folder, sizes in (
    (tmp_path, _SIZES._replace(targets=8)),
    (tmp_path / 'other', _SIZES),
    (tmp_path, _SIZES),
  ):
    task_pools.kept_pools(tmp_path / 'pools.npz', run_folder, sizes)
  with monkeypatch.context() as newer:
    newer.setattr(checkpoint, 'steps', lambda folder: [3])
    task_pools.kept_pools(tmp_path / 'pools.npz', tmp_path, _SIZES)
  assert len(loaded) == 5
  assert found[0].targets.obs.shape == pools.targets.obs.shape
  nothing = unseen_tasks.Found([1.0], [], [2.0], [3.0], {5: [2.0]}, [])
  monkeypatch.setattr(unseen_tasks, 'measure', lambda *args: nothing)
  made = [unseen_tasks.kept(tmp_path, found[0], _SIZES) for _ in range(2)]
  assert len(loaded) == 6 and made[0] == made[1]
  unseen_tasks.kept(tmp_path, None, _SIZES)
  assert len(loaded) == 7
  monkeypatch.setattr(unseen_tasks, '_VERSION', 0)
  unseen_tasks.kept(tmp_path, None, _SIZES)
  assert len(loaded) == 8


def test_what_is_measured_of_a_run(run, pools):
  adapt = run.algorithm.adapt
  assert adapt is not None

  def strongly(state, trajectory, key) -> tuple[Any, Any]:
    """What it adapts to pushes harder than it did."""
    params, context = adapt(state, trajectory, key)
    return jax.tree.map(lambda x: 1000 * x, params), context

  run = run._replace(algorithm=run.algorithm._replace(adapt=strongly))
  found = unseen_tasks.measure(run, pools, _SIZES)
  assert list(found.by_size) == [1, 2, 5]
  assert found.own == found.by_size[5] != found.other
  assert len(found.returns) == 3 and min(found.seconds) > 0
  assert len(found.before) == 3 == len(found.seconds)
  assert found.before != found.returns
  assert isinstance(run.config, config_lib.Experiment)


def test_tasks_of_another_seed_are_others_of_the_same_range():
  family = envs.family('acrobot')
  of = [
    np.asarray(
      jax.vmap(family.vector)(
        task_pools.test_tasks(family, _SIZES._replace(seed=seed))
      )
    )
    for seed in (None, 1, 2, 1)
  ]
  np.testing.assert_array_equal(of[1], of[3])
  assert len({float(x[0, 0]) for x in of}) == 3
  low, high = map(family.vector, family.trained_range())
  for tasks in of:
    assert tasks.shape == (3, 2)
    assert np.all((tasks >= low[None]) & (tasks <= high[None]))


@pytest.mark.slow  # A planner that adapts takes long to compile.
def test_l2a_is_adapted_to_the_steps_before(pools):
  """By hand: a network of zeros that learns its last biases alone."""
  config: Any = tiny_lib.shrink(algorithms.config('l2a')())
  config = config_lib.replaced(
    config, {'env.name': test_gssm.WORLD, 'adaptation.inner_lr': 0.5}
  )
  algorithm = algorithms.make('l2a', envs.make(config.env.name), config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  zero = jax.tree.map(jnp.zeros_like, state.model)
  wide = jnp.full_like(zero.statistics.low, 1e6)
  one = normalizer.Moments(*(jnp.ones_like(x) for x in zero.statistics.targets))
  still = one._replace(mean=jnp.zeros_like(one.mean))
  statistics = zero.statistics._replace(low=-wide, high=wide, targets=still)
  model = zero._replace(
    statistics=statistics, inner_lr=jnp.full_like(zero.inner_lr, 0.5)
  )
  run = saved_state.SavedState(
    config, algorithm, state._replace(model=model), 0
  )
  found = jax.jit(lambda: unseen_tasks.errors_of_l2a(run, pools))()
  obs, after = (
    np.asarray(getattr(pools.targets, name), float)
    for name in ('obs', 'next_obs')
  )
  change, steps = after - obs, config.adaptation.adapt_steps
  expected = np.zeros_like(change)
  for task in range(3):
    for n in range(6):
      begin = n
      while begin and np.all(after[task, begin - 1] == obs[task, begin]):
        begin -= 1
      known = change[task, max(begin, n - steps) : n]
      # The gradient of mean_d (b_d - y_d)^2, of n steps of which few are there.
      expected[task, n] = 0.5 * 2 / 4 * known.sum(0) / steps
  np.testing.assert_allclose(
    found, np.mean((change - expected) ** 2, (1, 2)), rtol=1e-4
  )
