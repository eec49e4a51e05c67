"""The host's side: metrics, checkpoints, resume, signals, the curve."""

import functools
import json
import math
import os
import pathlib
import signal
import warnings
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.training import best as best_lib
from mbmpo_jax.training import devices
from mbmpo_jax.training import evaluate
from mbmpo_jax.training import iteration
from mbmpo_jax.training import loop
from mbmpo_jax.training import machine
from mbmpo_jax.training import signals
from mbmpo_jax.training import stacked
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.reporting import metrics as metrics_lib
from mbmpo_jax.training.reporting import plot
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib
from tests import fake
from tests import tiny


def _train(
  config: config_lib.Experiment,
  workdir: pathlib.Path,
  progress: progress_lib.Progress | None = None,
  make=fake.make,
) -> Mapping[str, float]:
  progress = progress or progress_lib.Silent()
  return loop.train(config, workdir, make_algorithm=make, progress=progress)


def _start(
  algorithm: base.Algorithm,
  config: config_lib.Experiment,
  sharding: jax.sharding.Sharding,
) -> iteration.Saved:
  key = jax.random.PRNGKey(0)
  return iteration.start(algorithm, key, base.hyper(config), sharding)


def _rows(workdir: pathlib.Path) -> list[dict[str, float | None]]:
  """metrics.jsonl without what depends on the clock."""
  rows = []
  for line in (workdir / 'metrics.jsonl').read_text().splitlines():
    row = json.loads(line)
    clock = ('time/', 'throughput/')
    rows.append({k: v for k, v in row.items() if not k.startswith(clock)})
  return rows


# --- metrics


def test_metrics_drop_rows_from_the_restored_iteration_on(
  tmp_path: pathlib.Path,
) -> None:
  """No gap, no duplicate, and a line cut short is gone."""
  path = tmp_path / 'metrics.jsonl'
  writer = metrics_lib.JsonlWriter(path)
  for step in range(4):
    writer.write(step, {'a': step / 3, 'b': math.nan, 'c': math.inf})
  writer.close()
  with path.open('a') as file:
    file.write('{"iteration": 4, "a": 1')

  writer = metrics_lib.JsonlWriter(path, first_step=2)
  writer.write(2, {'a': 7.0})
  writer.close()
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line['iteration'] for line in lines] == [0, 1, 2]
  assert lines[1] == {'iteration': 1, 'a': 1 / 3, 'b': None, 'c': None}
  assert lines[2]['a'] == 7.0
  assert math.isnan(metrics_lib.read_jsonl(path)[1]['b'])


# --- checkpoints


def _damage(path: pathlib.Path) -> None:
  for file in path.rglob('*'):
    if file.is_file():
      file.write_bytes(b'')


def test_checkpoints_keep_the_newest(tmp_path: pathlib.Path) -> None:
  """The newest k stay; the newest is what is restored."""
  checkpoints = checkpoint.Checkpointer(tmp_path / 'c', keep=2)
  assert checkpoints.restore_latest(fake.abstract()) is None
  assert not (tmp_path / 'c').exists()
  for step in (1, 2, 3):
    checkpoints.save(step, fake.tree(step))
  checkpoints.wait()
  assert checkpoints.steps == [2, 3]
  with pytest.raises(checkpoint.CheckpointError, match='3'):
    checkpoints.save(3, fake.tree(9))
  checkpoints.close()

  checkpoints = checkpoint.Checkpointer(tmp_path / 'c', keep=2)
  restored = checkpoints.restore_latest(fake.abstract())
  checkpoints.close()
  assert restored is not None
  assert restored[0] == 3
  jax.tree.map(np.testing.assert_array_equal, restored[1], fake.tree(3))


def test_arrays_without_elements_are_kept(tmp_path: pathlib.Path) -> None:
  """As the state of a simulated body has; Orbax refuses them."""
  tree = {'act': jnp.zeros((3, 0)), 'qpos': jnp.ones(2), 'n': jnp.zeros(0, int)}
  home = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home), tree
  )
  checkpoints = checkpoint.Checkpointer(tmp_path)
  checkpoints.save(1, tree)
  checkpoints.wait()
  restored = checkpoints.restore_latest(abstract)
  checkpoints.close()
  assert restored is not None
  for name, x in tree.items():
    found = restored[1][name]
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(found, x)


def test_damaged_newest_checkpoint_falls_back(tmp_path: pathlib.Path) -> None:
  """To the one before, saying which; its step can be saved again."""
  checkpoints = checkpoint.Checkpointer(tmp_path, keep=3)
  for step in (1, 2, 3):
    checkpoints.save(step, fake.tree(step))
  checkpoints.close()
  _damage(tmp_path / '3')

  checkpoints = checkpoint.Checkpointer(tmp_path, keep=3)
  with pytest.warns(UserWarning, match='checkpoint 3 .* falling back to 2'):
    restored = checkpoints.restore_latest(fake.abstract())
  assert restored is not None
  assert restored[0] == 2
  assert float(restored[1]['x'][0, 0]) == 2
  checkpoints.save(3, fake.tree(3))
  checkpoints.wait()
  assert checkpoints.steps == [1, 2, 3]
  checkpoints.close()
  assert (tmp_path / '3.unreadable').is_dir()


def test_nothing_readable_is_an_error(tmp_path: pathlib.Path) -> None:
  """Starting afresh would overwrite the run; nothing is touched instead."""
  checkpoints = checkpoint.Checkpointer(tmp_path)
  checkpoints.save(1, fake.tree(1))
  checkpoints.wait()
  _damage(tmp_path / '1')
  with pytest.raises(checkpoint.CheckpointError, match='can be read'):
    checkpoints.restore_latest(fake.abstract())
  checkpoints.close()
  assert (tmp_path / '1').is_dir()


# --- the folder and the configuration


def test_changed_config_is_refused_by_name(tmp_path: pathlib.Path) -> None:
  """Both values are told; what is under run. may change."""
  config = tiny.point_config(run__num_iterations=1)
  _train(config, tmp_path)
  before = (tmp_path / 'config.json').read_text()
  config.meta.inner_lr = 0.5
  with pytest.raises(
    config_lib.ConfigError, match=r'meta\.inner_lr=0\.5: .* 0\.001'
  ):
    _train(config, tmp_path)
  assert (tmp_path / 'config.json').read_text() == before

  config.meta.inner_lr = 0.001
  config.run.num_iterations = 2
  _train(config, tmp_path)
  assert [row['iteration'] for row in _rows(tmp_path)] == [0, 1]
  assert (
    json.loads((tmp_path / 'config.json').read_text())['run']['num_iterations']
    == 2
  )


def test_config_may_change_before_the_first_checkpoint(
  tmp_path: pathlib.Path,
) -> None:
  """There is nothing yet that another configuration could not continue."""
  config = tiny.point_config(run__num_iterations=1)
  with pytest.raises(RuntimeError, match='power failure'):
    _train(config, tmp_path, fake.Interrupt(0, 'think', fake.crash))
  config.meta.inner_lr = 0.5
  _train(config, tmp_path)
  assert len(_rows(tmp_path)) == 1


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'env__name': 'pont'}, "'point'"),
    ({'model_rollouts__horizon': 31}, 'model_rollouts.horizon=31'),
    ({'trust_region__max_kl': -1.0}, 'trust_region.max_kl=-1.0'),
  ],
)
def test_bad_config_writes_nothing(
  change: dict, said: str, tmp_path: pathlib.Path
) -> None:
  """Everything is checked before the folder is made."""
  with pytest.raises(config_lib.ConfigError, match=said):
    _train(tiny.point_config(**change), tmp_path / 'run', make=None)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('inside', ['', 'run'])
def test_workdir_that_is_a_file_is_refused(
  inside: str, tmp_path: pathlib.Path
) -> None:
  """Also where a parent is."""
  path = tmp_path / 'file'
  path.write_text('mine')
  with pytest.raises(config_lib.ConfigError, match=r'--workdir=.*file'):
    _train(tiny.point_config(), path / inside)
  assert path.read_text() == 'mine'


def test_lost_config_json_is_one_line(tmp_path: pathlib.Path) -> None:
  """Without it nobody knows whether the run may be continued."""
  config = tiny.point_config(run__num_iterations=1)
  _train(config, tmp_path)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(config_lib.ConfigError, match=r'config\.json'):
    folder_lib.RunFolder(tmp_path).check_resumable(config)


def test_a_field_that_is_new_had_its_default(tmp_path: pathlib.Path) -> None:
  """A run begun before a field existed goes on, but not with another value."""
  config = tiny.point_config()
  folder = folder_lib.RunFolder(tmp_path)
  folder.create(config)
  text = json.loads(folder.config.read_text())
  del text['model_rollouts']['restart']
  folder.config.write_text(json.dumps(text))
  folder.check_resumable(config)
  config.model_rollouts.restart = True
  with pytest.raises(
    config_lib.ConfigError, match=r'model_rollouts\.restart=True'
  ):
    folder.check_resumable(config)


# --- evaluation


def test_first_episode() -> None:
  """Up to the first termination, that step included; padding is not."""
  terminated = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
  filler = jnp.zeros((4, 2))
  trajectory = types.Trajectory(
    obs=filler,
    action=filler,
    env_action=filler,
    log_prob=filler,
    reward=filler,
    next_obs=filler,
    terminated=terminated,
    mask=jnp.ones((4, 2)),
  )
  live = evaluate.first_episode(trajectory)
  np.testing.assert_array_equal(live.T, [[1, 1, 0, 0], [1, 1, 1, 1]])
  masked = trajectory._replace(mask=trajectory.mask.at[3, 1].set(0.0))
  live = evaluate.first_episode(masked)
  np.testing.assert_array_equal(live.T, [[1, 1, 0, 0], [1, 1, 1, 0]])


def test_evaluate_runs_one_episode_per_environment() -> None:
  """The countdown's return is known for both of its starts."""
  run = evaluate.make_evaluate(
    tiny.Countdown(), tiny.NO_OP, num_episodes=32, episode_length=9
  )
  metrics = run((), jax.random.PRNGKey(0))
  assert set(metrics) == set(evaluate.METRICS)
  # 0+1+2+3 from either start, where a second episode would add more.
  np.testing.assert_allclose(metrics['eval/return_mean'], 6.0)
  np.testing.assert_allclose(metrics['eval/return_std'], 0.0)
  # 4 steps from 0, 3 from 1: which starts were drawn, the key says.
  lengths = 4 - jax.vmap(tiny.Countdown().initial_obs)(
    jax.random.split(jax.random.split(jax.random.PRNGKey(0), 4)[0], 32)
  )
  np.testing.assert_allclose(metrics['eval/length_mean'], np.mean(lengths))


def test_a_greedy_evaluation_acts_without_noise() -> None:
  """A policy whose noise alone moves the point."""
  env = envs.make('point')
  policy = policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Gaussian(0 * obs, jnp.zeros_like(obs)),
    noise=functools.partial(distributions.normal_noise, action_size=2),
  )
  found = [
    evaluate.make_evaluate(
      env, policy, num_episodes=3, episode_length=5, greedy=greedy
    )((), jax.random.PRNGKey(0))
    for greedy in (False, True)
  ]
  starts = jax.vmap(env.initial_obs)(
    jax.random.split(jax.random.split(jax.random.PRNGKey(0), 4)[0], 3)
  )
  still = 5 * jax.vmap(env.reward)(starts, jnp.zeros((3, 2)), starts)
  np.testing.assert_allclose(found[1]['eval/return_mean'], np.mean(still))
  assert abs(found[0]['eval/return_mean'] - np.mean(still)) > 0.1


# --- the loop


def test_a_run_that_is_solved_ends_and_stays_so(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  """After six evaluations, of which only every second iteration has one."""
  config = tiny.point_config(
    run__num_iterations=15, run__eval_every=2, run__solved_at=-1e9
  )
  workdir = tmp_path / 'run'
  for _ in range(2):
    _train(config, workdir, progress_lib.Lines())
    assert len(_rows(workdir)) == 11
    out = capsys.readouterr()
    said = out.out + out.err
    assert '3 evaluations in a row reached run.solved_at' in said
    assert '11 of 11 iterations are done' in said and 'continues' not in said
  assert checkpoint.steps(workdir / 'checkpoints')[-1] == 11
  never = config_lib.replaced(config, {'run.solved_at': 1e9})
  _train(never, tmp_path / 'never')
  assert len(_rows(tmp_path / 'never')) == 15


def test_returns_that_models_promise_are_watched(
  tmp_path: pathlib.Path,
) -> None:
  """A run warns once, also if it is continued, and keeps the ratio."""

  def make(*args, **options) -> base.Algorithm:
    made = fake.make(*args, **options)
    think = made.phases['think'].function

    def dream(state):
      state, metrics = think(state)
      return state, {**metrics, 'dream': jnp.float32(1e6)}

    dreamt = base.Metric('', against='gathered/return', advice='wake up')
    return fake.with_phase(made, 'think', dream, {'dream': dreamt})

  config = tiny.point_config(run__num_iterations=4)
  with pytest.warns(UserWarning, match='dream exceeded gathered.*wake') as told:
    _train(config, tmp_path, make=make)
  assert sum('exceeded' in str(x.message) for x in told) == 1
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    _train(
      config_lib.replaced(config, {'run.num_iterations': 7}),
      tmp_path,
      make=make,
    )
  rows = _rows(tmp_path)
  assert len(rows) == 7
  for row in rows:
    real = row['gathered/return'] or 0.0
    if real > 0:
      assert row['dream_ratio'] == pytest.approx(1e6 / real, rel=1e-5)
    else:
      assert row['dream_ratio'] is None


def test_run_leaves_a_folder_that_explains_itself(
  tmp_path: pathlib.Path,
) -> None:
  """All files, all promised metrics, evaluations where they are due."""
  config = tiny.point_config(run__num_iterations=4, run__eval_every=2)
  result = _train(config, tmp_path)
  assert {p.name for p in tmp_path.iterdir()} == {
    'config.json',
    'machines.jsonl',
    'metrics.jsonl',
    '.lock',
    'checkpoints',
    'tensorboard',
    'learning_curve.png',
  }
  rows = metrics_lib.read_jsonl(tmp_path / 'metrics.jsonl')
  assert [row['iteration'] for row in rows] == [0, 1, 2, 3]
  assert [row['env_steps'] for row in rows] == [10, 20, 30, 40]
  evaluated = [math.isfinite(row['eval/return_mean']) for row in rows]
  assert evaluated == [True, False, True, True]
  for name in (*fake.PHASES, 'eval', 'compile'):
    assert rows[0][f'time/{name}_s'] > 0
  # Nothing compiles again.
  assert all(row['time/compile_s'] == 0 for row in rows[1:])
  assert all(row.keys() == rows[0].keys() for row in rows)
  np.testing.assert_equal(dict(result), rows[-1])
  best = int(rows[-1]['eval/best_iteration'])
  assert evaluated[best]
  assert abs(rows[-1]['eval/best_return']) < 200
  assert 0 < rows[-1]['eval/best_error'] < 20
  png = (tmp_path / 'learning_curve.png').read_bytes()
  assert png.startswith(b'\x89PNG')


def test_a_run_names_the_machines_that_worked_on_it(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Not one on which the finished run was only opened again."""

  def start(cpu: str, num_iterations: int) -> list[tuple[int, str]]:
    monkeypatch.setattr(machine, 'describe', lambda: {'cpu': cpu})
    _train(tiny.point_config(run__num_iterations=num_iterations), tmp_path)
    lines = (tmp_path / 'machines.jsonl').read_text().splitlines()
    return [(x['iteration'], x['cpu']) for x in map(json.loads, lines)]

  assert start('a', 2) == [(0, 'a')]
  assert start('b', 2) == [(0, 'a')]
  assert start('b', 4) == [(0, 'a'), (2, 'b')]


def test_best_policy_is_the_one_evaluated_best_twice() -> None:
  """Its copy survives the state that it came from, and a NaN never wins.

  What counts are further episodes, which chance did not choose.
  """
  config = tiny.point_config()
  env = envs.make('point')
  algorithm = fake.make(env, config)
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  saved = _start(algorithm, config, sharding)
  run = iteration.Iteration(env, config, algorithm, progress_lib.Silent())
  play = evaluate.make_evaluate(
    env,
    algorithm.policy,
    num_episodes=config.run.eval_episodes,
    episode_length=config.collect.episode_length,
  )
  policies, best, most, error, lucky = [], -1, -math.inf, 0.0, 0
  for index in range(6):
    saved, (row,) = run(saved, index)
    first, *further = best_lib.keys(saved.state.counters.key, index)
    once = play(saved.policy, first)
    assert row['eval/return_mean'] == pytest.approx(once['eval/return_mean'])
    if once['eval/return_mean'] > most:
      found = [play(saved.policy, key) for key in further]
      mean = np.mean([x['eval/return_mean'] for x in found])
      square = [
        x['eval/return_mean'] ** 2 + x['eval/return_std'] ** 2 for x in found
      ]
      lucky += mean <= most
      if mean > most:
        best, most = index, mean
        count = len(further) * config.run.eval_episodes
        error = np.sqrt((np.mean(square) - mean**2) / (count - 1))
    assert row['eval/best_iteration'] == best
    assert row['eval/best_return'] == pytest.approx(most, rel=1e-5)
    assert row['eval/best_error'] == pytest.approx(error, rel=1e-3)
    # Of a copy: a view on the CPU would keep the buffers from being reused.
    policies.append(jax.tree.map(lambda x: np.array(jnp.copy(x)), saved.policy))
    jax.tree.map(
      np.testing.assert_array_equal, saved.policy, saved.state.weights
    )
  assert not any(x.is_deleted() for x in jax.tree.leaves(saved.best_policy))
  assert best < 5, 'the last being the best would prove nothing'
  jax.tree.map(np.testing.assert_array_equal, saved.best_policy, policies[best])
  spoilt = saved._replace(
    state=saved.state._replace(
      weights=jax.tree.map(lambda x: x * jnp.nan, saved.policy)
    )
  )
  after, (row,) = run(spoilt, 6)
  assert math.isnan(row['eval/return_mean'])
  jax.tree.map(np.testing.assert_array_equal, after.best_policy, policies[best])


def test_a_policy_with_a_memory_is_evaluated_with_it() -> None:
  """Its carry begins with an episode, and it is told what came of its acts."""

  def act(params, carry, obs, noise):
    action = jnp.broadcast_to(carry[:, None] * params, obs.shape)
    return carry, policies.Action(action, action, carry)

  counting = policies.Policy(
    init=lambda key: jnp.float32(0),
    start=lambda params, key, context, num: jnp.zeros(num),
    act=act,
    noise=lambda key, shape: jnp.zeros(shape),
    observe=lambda params, carry, step: carry + step.reward,
  )

  class Paying(tiny.Countdown):
    """Pays what is done in it, and one."""

    def reward(self, obs, action, next_obs):
      return 1 + action[..., 0]

  run = evaluate.make_evaluate(
    Paying(), counting, num_episodes=16, episode_length=3
  )
  metrics = run(jnp.float32(0.5), jax.random.PRNGKey(0))
  # 1, 1 + 1 / 2, 1 + (1 + 3 / 2) / 2 from either start, clipped at 1.
  np.testing.assert_allclose(metrics['eval/return_mean'], 1 + 1.5 + 2.0)


def test_fresh_state_looks_like_a_restored_one(tmp_path: pathlib.Path) -> None:
  """To the compiler, so that a continued run takes the very same programs."""
  config = tiny.point_config()
  algorithm = fake.make(envs.make('point'), config)
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  fresh = _start(algorithm, config, sharding)
  checkpoints = checkpoint.Checkpointer(tmp_path)
  checkpoints.save(1, fresh)
  checkpoints.wait()
  restored = checkpoints.restore_latest(
    jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), fresh
    )
  )
  checkpoints.close()
  assert restored is not None

  def looks(tree):
    return [
      (x.aval, x.aval.weak_type, x.sharding, x.committed)
      for x in jax.tree.leaves(tree)
    ]

  assert looks(restored[1]) == looks(fresh)


@pytest.mark.parametrize('num_runs', [None, 4])
def test_an_iteration_takes_over_the_buffers_of_the_last(
  num_runs: int | None,
) -> None:
  """What is kept for longer, the best policy, is not among them.

  Of one run or of four on two devices, where all stays in its place.
  """
  env = envs.make('point')
  config = tiny.point_config(run__eval_every=2, run__num_iterations=3)
  algorithm = fake.make(env, config)
  mesh = devices.make_run_mesh(num_runs, 2) if num_runs else None
  home = devices.replicated(None)
  saved = _start(algorithm, config, home)
  if num_runs:
    saved, home = stacked.stack([saved] * num_runs, mesh), devices.by_run(mesh)
  run = iteration.Iteration(
    env, config, algorithm, progress_lib.Silent(), num_runs=num_runs, mesh=mesh
  )
  for index in range(2):
    after, _ = run(saved, index)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(saved.state))
    for leaf in jax.tree.leaves(after):
      assert not leaf.is_deleted()
      assert leaf.sharding == home
    saved = after


def test_each_phase_is_traced_once(tmp_path: pathlib.Path) -> None:
  """In a run, and as often in its continuation."""
  traced: list[str] = []

  def make(env, config):
    algorithm = fake.make(env, config)

    def counted(name, phase):
      def function(state):
        traced.append(name)
        return phase(state)

      return base.Phase(function)

    phases = {n: counted(n, phase) for n, phase in algorithm.phases.items()}
    return algorithm._replace(phases=phases)

  _train(tiny.point_config(run__num_iterations=3), tmp_path, make=make)
  assert traced == [*fake.PHASES]
  _train(tiny.point_config(run__num_iterations=5), tmp_path, make=make)
  assert len(traced) == 6


@pytest.mark.parametrize(
  ('checkpoint_every', 'action', 'at', 'phase', 'rows', 'resumed'),
  [
    (1, fake.sigterm, 1, 'think', 2, 2),  # finishes iteration 1 and saves it
    (2, fake.sigterm, 2, 'evaluate', 3, 3),  # saves although none is due
    (1, fake.crash, 2, 'learn', 2, 2),  # goes back to the end of iteration 1
    (3, fake.crash, 4, 'think', 4, 3),  # iteration 3 is run again, and its row
  ],
)
def test_interrupted_run_equals_uninterrupted_one(
  checkpoint_every: int,
  action,
  at: int,
  phase: str,
  rows: int,
  resumed: int,
  tmp_path: pathlib.Path,
) -> None:
  """Row by row and bit for bit, but for the clock."""
  config = tiny.point_config(
    run__num_iterations=6, run__checkpoint_every=checkpoint_every
  )
  _train(config, tmp_path / 'whole')
  interrupt = fake.Interrupt(at, phase, action)
  if action is fake.crash:
    with pytest.raises(RuntimeError, match='power failure'):
      _train(config, tmp_path / 'parts', interrupt)
  else:
    _train(config, tmp_path / 'parts', interrupt)
  assert len(_rows(tmp_path / 'parts')) == rows
  listener = fake.Interrupt(99, '', fake.crash)
  _train(config, tmp_path / 'parts', listener)
  assert listener.done == resumed
  assert _rows(tmp_path / 'parts') == _rows(tmp_path / 'whole')
  # Started once more, the finished run stays as it is.
  _train(config, tmp_path / 'parts')
  assert _rows(tmp_path / 'parts') == _rows(tmp_path / 'whole')


def test_damaged_checkpoint_costs_one_iteration(tmp_path: pathlib.Path) -> None:
  """And no more: the row is made again, equal."""
  config = tiny.point_config(run__num_iterations=3)
  _train(config, tmp_path)
  whole = _rows(tmp_path)
  _damage(tmp_path / 'checkpoints' / '3')
  with pytest.warns(UserWarning, match='checkpoint 3'):
    _train(config, tmp_path)
  assert _rows(tmp_path) == whole


def test_second_signal_stops_at_once() -> None:
  """And the handlers from before come back."""
  before = signal.getsignal(signal.SIGTERM)
  with signals.StopRequest() as stop:
    assert stop.requested is None
    fake.sigterm()
    assert stop.requested == 'SIGTERM'
    with pytest.raises(KeyboardInterrupt):
      fake.sigterm()
  assert signal.getsignal(signal.SIGTERM) is before


# --- what the user sees


def test_plain_progress_is_a_line_per_iteration(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  """Plus one where something compiles, and where to look at the end."""
  config = tiny.point_config(run__num_iterations=3)
  _train(config, tmp_path, progress_lib.Lines())
  lines = capsys.readouterr().out.splitlines()
  assert sum(line.startswith('iteration ') for line in lines) == 3
  assert [line for line in lines if line.startswith('compiling')] == [
    f'compiling {name}' for name in (*fake.PHASES, 'evaluate')
  ]
  assert 'iteration 2/3  steps 20  eval ' in lines[5]
  assert str(tmp_path / 'learning_curve.png') in '\n'.join(lines[-5:])


def test_limits_follow_what_is_real() -> None:
  """A runaway imagined return does not flatten the curves that matter."""
  real = np.array([0.0, 10.0, np.nan])
  low, high = plot.y_limits(real, np.array([5.0, 1e9, -1e9]))
  assert -10 < low < 0
  assert 10 < high < 20
  low, high = plot.y_limits(real, np.array([2.0]))
  assert -1 < low < 0
  assert 10 < high < 11
  assert plot.y_limits(np.array([np.nan]), real) is None


def test_curve_without_any_evaluation_is_drawn(tmp_path: pathlib.Path) -> None:
  """A run may be looked at before there is much to see."""
  path = tmp_path / 'curve.png'
  row = {'env_steps': 10, 'gathered/return': 1.0}
  plot.learning_curve([row], path, fake.METRICS)
  assert path.stat().st_size > 0
  assert list(tmp_path.iterdir()) == [path]


def test_cache_folder_follows_the_environment(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """JAX's own variable wins; otherwise the user's cache folder."""
  before = jax.config.jax_compilation_cache_dir
  assert str(cache.enable()) == os.environ['JAX_COMPILATION_CACHE_DIR']
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  assert str(cache.enable()) == before, 'what a program has set stays'
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  jax.config.update('jax_compilation_cache_dir', None)
  try:
    assert cache.enable() == tmp_path / 'mbmpo_jax' / 'xla'
    folder = jax.config.jax_compilation_cache_dir
    assert folder == str(tmp_path / 'mbmpo_jax' / 'xla')
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
