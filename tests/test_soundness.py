"""A run that is stuck stops, and says what was not finite, when, and where."""

import inspect
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import errors
from mbmpo_jax.algorithms import base
from mbmpo_jax.envs import point
from mbmpo_jax.training import devices
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training import loop
from mbmpo_jax.training import origin
from mbmpo_jax.training import sweep
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.reporting import progress as progress_lib
from tests import fake
from tests import tiny

# --- consecutive iterations that taught nothing

_COUNTS = {
  'nonfinite/dreams': base.Metric('dreams of tasks'),
  'nonfinite/wishes': base.Metric('wishes that were tried'),
  base.STUCK: base.Metric('1 where nothing was learned'),
}


def _make(*stuck: int, above: float = -1.0):
  """An algorithm whose iterations of these numbers teach nothing.

  In runs whose inner_lr is above `above`.
  """

  def make(env, config):
    algorithm = fake.make(env, config)

    def learn(state):
      iteration = state.counters.iteration
      among = jnp.any(iteration == jnp.asarray(stuck, jnp.int32))
      bad = among & (state.hyper['meta.inner_lr'] > above)
      state, metrics = algorithm.phases['learn'](state)
      return state, metrics | {
        'nonfinite/dreams': 8.0 * bad,
        'nonfinite/wishes': 1.0 * bad * (iteration % 2 == 0),
        base.STUCK: 1.0 * bad,
      }

    return fake.with_phase(algorithm, 'learn', learn, _COUNTS)

  return make


def _config(**changes) -> config_lib.Experiment:
  return tiny.point_config(
    run__num_iterations=12,
    run__max_rejected_iterations=3,
    run__keep_checkpoints=20,
    **changes,
  )


def _train(make, workdir: pathlib.Path, config=None, progress=None):
  return loop.train(
    config or _config(),
    workdir,
    make_algorithm=make,
    progress=progress or progress_lib.Silent(),
  )


def _iterations(workdir: pathlib.Path) -> list[int]:
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['iteration'] for line in lines]


def _checkpoints(workdir: pathlib.Path) -> list[int]:
  found = [path.name for path in (workdir / 'checkpoints').iterdir()]
  return sorted(int(name) for name in found if name.isdigit())


def test_stops_with_a_report_and_keeps_the_checkpoints(tmp_path):
  """One line per kind, of those in a row; tried again when continued."""
  make = _make(1, 3, 4, 6, 7, 8, 9)
  for _ in range(2):
    with pytest.raises(errors.NonFiniteError) as error:
      _train(make, tmp_path)
    assert 'stopped after 3 consecutive iterations' in str(error.value)
    assert error.value.exit_code == 1
    assert error.value.__notes__ == [
      'nonfinite/dreams: 24 dreams of tasks, iterations 6 to 8',
      'nonfinite/wishes: 2 wishes that were tried, iterations 6 to 8',
    ]
    assert _iterations(tmp_path) == list(range(9))
    assert _checkpoints(tmp_path) == list(range(1, 9))
  # Once the cause is gone, the run goes on.
  assert _train(_make(), tmp_path)['iteration'] == 11


@pytest.mark.parametrize('at', [5, 6])
def test_a_resumed_run_counts_on(tmp_path, at):
  """Stopped in the middle of what teaches nothing, by a signal."""
  make = _make(5, 6, 7)
  _train(make, tmp_path, progress=fake.Interrupt(at, 'think', fake.sigterm))
  assert _iterations(tmp_path) == list(range(at + 1))
  with pytest.raises(errors.NonFiniteError) as error:
    _train(make, tmp_path)
  assert error.value.__notes__[0].endswith('iterations 5 to 7')
  assert _iterations(tmp_path) == list(range(8))


@pytest.mark.parametrize('limit', [0, 4])
def test_fewer_or_none_do_not_stop_it(tmp_path, limit):
  config = _config()
  config.run.max_rejected_iterations = limit
  stuck = (2, 3, 4) if limit else range(12)
  assert _train(_make(*stuck), tmp_path, config)['iteration'] == 11


def test_a_sweep_stops_when_all_its_runs_are_stuck(tmp_path):
  """One that is stuck among others is named, and they go on."""
  values = {'meta.inner_lr': (0.1, 0.5)}
  grid = grid_lib.Grid(_config(), values)
  with pytest.warns(UserWarning, match='nothing is learned') as caught:
    sweep.sweep(
      grid,
      tmp_path / 'one',
      make_algorithm=_make(*range(2, 12), above=0.3),
      progress=progress_lib.Silent(),
    )
  (warning,) = caught
  text = str(warning.message)
  assert text.startswith('meta.inner_lr=0.5,seed=0: nothing is learned')
  assert 'nonfinite/dreams: 24' in text
  for name in grid.runs():
    assert _iterations(tmp_path / 'one' / name) == list(range(12))

  with pytest.raises(errors.NonFiniteError) as error:
    sweep.sweep(
      grid,
      tmp_path / 'all',
      make_algorithm=_make(*range(2, 12)),
      progress=progress_lib.Silent(),
    )
  names = list(grid.runs())
  assert all(name in str(error.value) for name in names)
  assert [note.split(': ')[0] for note in error.value.__notes__] == [
    names[0], names[0], names[1], names[1],
  ]  # fmt: skip


def test_a_binary_prints_the_report_and_exits_with_1(capsys):
  error = errors.NonFiniteError('stuck')
  error.add_note('a: 1')
  error.add_note('b: 2')
  with pytest.raises(SystemExit) as exit_, training_flags.one_line_errors():
    raise error
  assert exit_.value.code == 1
  assert capsys.readouterr().err == 'error: stuck\n  a: 1\n  b: 2\n'


def test_an_error_in_a_traced_function_is_one_line(capsys):
  """JAX adds a note on its frames, which is not for users."""

  @jax.jit
  def refuse(x):
    raise errors.UserError(f'x of rank {x.ndim}: must be of rank 1')

  with pytest.raises(SystemExit) as exit_, training_flags.one_line_errors():
    refuse(jnp.zeros(()))
  assert exit_.value.code == 2
  said = capsys.readouterr().err
  assert said == 'error: x of rank 0: must be of rank 1\n'


# --- where a number comes from


def _log(x):
  return jnp.log(x)  # the line


_LINE = inspect.getsourcelines(_log)[1] + 1
_NAMED = f'log at {__file__}:{_LINE} in _log'


def _in_scan(x):
  return jax.lax.scan(lambda c, t: (c + _log(x - t), c), x, jnp.arange(4.0))[0]


def _in_while(x):
  return jax.lax.while_loop(
    lambda c: c[1] > -3, lambda c: (_log(c[1]), c[1] - 1), (x, x)
  )[0]


def _in_branch(x):
  return jax.lax.cond(x > 100, lambda x: x, lambda x: _log(x - 100), x)


def _in_call(x):
  return jax.jit(_log)(x - 3)


def _masked(x):
  return jnp.where(x > 100, _log(x - 100), 0.0)


def _dropped(x):
  """As a step of the line search that is not finite."""
  return jax.lax.fori_loop(
    0, 3, lambda i, c: jnp.where(i < 3, c, jnp.exp(_log(1.0 - i) * 0)), x
  )


@pytest.mark.parametrize(
  'function',
  [_in_scan, _in_while, _in_branch, _masked, _dropped, _in_call],
)
def test_the_line_is_found(function):
  """Inside loops, branches and calls, under vmap, and where it is dropped."""
  x = jnp.array([2.0, 2.5])
  assert origin.find(jax.vmap(function), x) == _NAMED


def test_the_line_is_the_callers_own():
  """Where JAX reuses what it traced for another caller; also for gradients."""

  def harmless(x):
    return jnp.var(x)

  def harmful(x):
    return jnp.var(x)

  line = inspect.getsourcelines(harmful)[1] + 1
  found = origin.find(
    lambda x: harmless(x) + harmful(x * 1e30), jnp.array([1.0, 2.0])
  )
  assert found is not None
  assert f'{__file__}:{line} in' in found
  found = origin.find(jax.grad(lambda x: jnp.sqrt(x)), jnp.float32(0))
  assert found is not None
  assert f'{__file__}:' in found


def test_what_comes_in_and_what_is_sound_are_not_blamed():
  x = jnp.array([1.0, jnp.inf])
  assert origin.find(lambda x: jnp.where(x > 2, x, jnp.nan) * 2, x) is None
  text = origin.explain(lambda x: x['a'], {'a': x * jnp.nan, 'b': x})
  assert text == "its inputs contain NaN in [0]['a']"


class Pit(point.Point):
  """Its reward is no number where the first coordinate is large."""

  def reward(self, obs, action, next_obs):
    depth = jnp.sqrt(1.8 - obs[..., 0])  # the pit
    return super().reward(obs, action, next_obs) - depth


_PIT = inspect.getsourcelines(Pit.reward)[1] + 1


def test_debug_nans_names_the_phase_and_the_line(tmp_path):
  """Whatever the phase; a metric that has no value is no reason to stop."""

  def make(env, config):
    algorithm = fake.make(env, config)

    def think(state):
      metrics = {'thought/loss': jnp.float32(jnp.nan)}
      scale = _log(state.scale - 2 * state.counters.iteration)
      return state._replace(scale=jnp.exp(scale)), metrics

    return fake.with_phase(algorithm, 'think', think)

  with pytest.raises(errors.NonFiniteError) as error:
    loop.train(
      tiny.point_config(run__num_iterations=3),
      tmp_path,
      make_algorithm=make,
      progress=progress_lib.Silent(),
      debug_nans=True,
    )
  said = str(error.value)
  assert said.startswith('think: not all numbers are finite')
  assert _NAMED in said
  assert _iterations(tmp_path) == [0]


@pytest.mark.slow
def test_debug_nans(tmp_path, monkeypatch):
  """A healthy run is to the bit what it is without; else the line is named."""
  config = tiny.point_config(run__num_iterations=2)
  quiet = progress_lib.Silent()
  debugged = loop.train(config, tmp_path / 'a', progress=quiet, debug_nans=True)
  plain = loop.train(config, tmp_path / 'b', progress=quiet)
  for name, value in plain.items():
    if not name.startswith(('time/', 'throughput/')):
      np.testing.assert_equal(debugged[name], value)
  monkeypatch.setattr(envs, 'make', lambda *_: Pit())
  with pytest.raises(errors.NonFiniteError) as error:
    loop.train(
      tiny.point_config(),
      tmp_path / 'c',
      make_algorithm=lambda env, config: algorithms.make(
        config.algorithm, env, config, check=False
      ),
      progress=quiet,
      debug_nans=True,
    )
  assert 'not all numbers are finite' in str(error.value)
  assert f'sqrt at {__file__}:{_PIT} in' in str(error.value)


def test_debug_nans_wants_one_device(tmp_path):
  config = tiny.point_config()
  mesh = devices.make_mesh(config, 2)
  with pytest.raises(config_lib.ConfigError, match=r'--debug_nans: .* not 2'):
    loop.train(config, tmp_path, mesh=mesh, debug_nans=True)
