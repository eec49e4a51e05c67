"""Runs that begin from a checkpoint of another run."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import branching
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration
from mbmpo_jax.training import loop
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import saved_policy
from tests import tiny

_TIMES = ('time/', 'throughput/')


def _config(algorithm: str = 'ppo', **values) -> config_lib.Experiment:
  config = tiny.of(algorithm, run__num_iterations=4)
  return config_lib.replaced(
    config,
    {'run.checkpoint_every': 1, 'run.keep_checkpoints': 9}
    | {name.replace('__', '.'): value for name, value in values.items()},
  )


def _train(config, folder, **options) -> list[dict[str, float]]:
  loop.train(config, folder, progress=progress_lib.Silent(), **options)
  rows = metrics.read_jsonl(folder / 'metrics.jsonl')
  return [
    {name: x for name, x in row.items() if not name.startswith(_TIMES)}
    for row in rows
  ]


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> tuple[pathlib.Path, list[dict[str, float]]]:
  folder = tmp_path_factory.mktemp('branching') / 'source'
  return folder, _train(_config(), folder)


def test_a_branch_without_a_change_is_the_same_run(source, tmp_path) -> None:
  """To the bit; and it resumes like any run."""
  folder, rows = source
  branch = branching.load(folder, 2)
  again = tmp_path / 'again'
  found = _train(_config(run__num_iterations=3), again, branch=branch)
  np.testing.assert_equal(found, rows[:3])
  begun = json.loads(folder_lib.RunFolder(again).branch.read_text())
  assert begun == {'run': str(folder), 'iteration': 2}
  np.testing.assert_equal(_train(_config(), again, branch=branch), rows)
  best, own = (saved_policy.load_policy(x) for x in (folder, again))
  assert best.iteration == own.iteration


@pytest.mark.parametrize(
  'changed', [{'learn.learning_rate': 0.05}, {'seed': 5}]
)
def test_a_branch_differs_after_it_only(changed, source, tmp_path) -> None:
  folder, rows = source
  config = config_lib.replaced(_config(), changed)
  found = _train(config, tmp_path / 'x', branch=branching.load(folder, 2))
  assert len(found) == 4
  np.testing.assert_equal(found[:2], rows[:2])
  name = 'policy/kl' if 'seed' not in changed else 'real/return'
  assert found[2][name] != rows[2][name]


def test_another_seed_has_keys_of_which_the_run_has_none(source) -> None:
  """A key that folds in a small number is one that the run splits off."""
  branch = branching.load(source[0], 2)
  env = envs.from_config(branch.config.env)
  algorithm = algorithms.make('ppo', env, branch.config)
  saved = iteration.start(
    algorithm,
    jax.random.PRNGKey(0),
    base.hyper(branch.config),
    devices.replicated(None),
  )

  def key(seed: int) -> list[int]:
    config = _config(seed=seed)
    begun = branching.begin(branch, saved, config, devices.replicated(None))
    return begun.state.counters.key.tolist()

  own = key(branch.config.seed)
  found = [key(seed) for seed in range(1, 4)]
  assert len({tuple(x) for x in (own, *found)}) == 4
  for count in range(1, 12):
    parts = jax.random.split(jnp.asarray(own, jnp.uint32), count).tolist()
    assert not [x for x in found if x in parts]


def test_the_newest_checkpoint_is_the_default(source) -> None:
  assert branching.load(source[0]).iteration == 4


def test_another_environment_has_another_best_policy(source) -> None:
  """Returns in two environments are not compared."""
  branch = branching.load(source[0], 2)
  config = _config()
  algorithm = algorithms.make('ppo', envs.make('point'), config)
  sharding = devices.replicated(None)
  saved = iteration.start(
    algorithm, jax.random.PRNGKey(0), base.hyper(config), sharding
  )
  same = branching.begin(branch, saved, config, sharding)
  assert np.isfinite(same.best_return) and same.best_iteration >= 0
  for changed in ({'env.physics': 'warp'}, {'collect.episode_length': 3}):
    other = config_lib.replaced(config, changed)
    found = branching.begin(branch, saved, other, sharding)
    assert found.best_return == -np.inf and found.best_iteration == -1
    jax.tree.map(np.testing.assert_array_equal, found.policy, same.policy)


@pytest.mark.parametrize(
  ('config', 'said'),
  [
    (lambda: _config('trpo'), "is a run of 'ppo': must be a run of 'trpo'"),
    (
      lambda: _config(policy__hidden_sizes=(9,)),
      'its state does not fit the new configuration: policy',
    ),
    (_config, 'run.num_iterations=4: must be > 4, the iterations that'),
  ],
)
def test_what_does_not_fit_is_refused(config, said, source, tmp_path) -> None:
  with pytest.raises(config_lib.ConfigError, match=said) as error:
    _train(config(), tmp_path / 'x', branch=branching.load(source[0]))
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'x').exists()


def test_what_is_not_there_is_refused(source, tmp_path) -> None:
  with pytest.raises(config_lib.ConfigError, match='--branch_at=7: must be an'):
    branching.load(source[0], 7)
  with pytest.raises(config_lib.ConfigError, match='must hold a run') as error:
    branching.load(tmp_path)
  assert str(error.value).startswith('--branch_from=')
