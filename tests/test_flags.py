"""The command line: every mistake is one line, exit code 2, nothing written."""

import contextlib
import io
import os
import pathlib
import runpy
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator

import pytest
from absl import flags

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import sweep_flags

_ROOT = pathlib.Path(__file__).parents[1]
_PRESETS = _ROOT / 'experiments' / 'configs'
_CONFIGS = _PRESETS / 'mbmpo'


def _parse(*arguments: str) -> training_flags.Arguments:
  return training_flags.parse(
    ['train.py', *arguments],
    default_config=_CONFIGS / 'half_cheetah_quick.py',
    flag_values=flags.FlagValues(),
  )


def test_default_is_the_quick_preset() -> None:
  """Without flags: the default preset, and a folder of its name."""
  config, workdir, devices, debug_nans = _parse()
  preset = runpy.run_path(str(_CONFIGS / 'half_cheetah_quick.py'))
  assert config == preset['get_config']()
  assert workdir == pathlib.Path('runs/mbmpo/half_cheetah_quick')
  assert not devices.distributed
  assert devices.num_devices is None
  assert not debug_nans


def test_overrides_reach_the_config_wherever_the_file_is_named() -> None:
  """Types are those of the fields; the last `--config` counts."""
  config, workdir, _, debug_nans = _parse(
    '--debug_nans',
    '--config.meta.inner_lr=0.005',
    '--config.model.hidden_sizes=(8, 9)',
    f'--config={_CONFIGS}/half_cheetah.py',
    '--config.seed',
    '3',
    '--config.model.clip_margin=0.5',
    '--config.model.clip_margin=None',
    '--noconfig.policy.learn_std',
    '--config',
    str(_CONFIGS / 'point.py'),
    '--workdir=here',
  )
  assert config.env.name == 'point'
  assert config.meta.inner_lr == 0.005
  assert config.model.hidden_sizes == (8, 9)
  assert config.seed == 3
  assert config.model.clip_margin is None
  assert not config.policy.learn_std
  assert workdir == pathlib.Path('here')
  assert debug_nans


@pytest.mark.parametrize(
  ('name', 'env', 'workdir'),
  [
    ('mbmpo/hopper', 'hopper', 'mbmpo/hopper'),
    ('point', 'point', 'mbmpo/point'),
    (str(_CONFIGS / 'swimmer.py'), 'swimmer', 'mbmpo/swimmer'),
  ],
)
def test_preset_is_named_or_a_path(
  name: str,
  env: str,
  workdir: str,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """From any folder; a name alone is the default's algorithm's."""
  monkeypatch.chdir(tmp_path)
  arguments = _parse(f'--config={name}')
  assert arguments.config.env.name == env
  assert arguments.workdir == pathlib.Path('runs', workdir)


def test_own_file_is_run_once_and_before_a_preset(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """What stands after a colon is for its `get_config`."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('point').write_text(
    'from mbmpo_jax.algorithms.mbmpo import config\n'
    "print('run')\n"
    'def get_config(seed="7"):\n'
    "  print('called')\n"
    '  return config.Config(seed=int(seed))\n'
  )
  said = io.StringIO()
  with contextlib.redirect_stdout(said):
    config, workdir, *_ = _parse('--config=point', '--config.meta.inner_lr=0.5')
  assert said.getvalue() == 'run\ncalled\n'
  assert (config.seed, config.env.name) == (7, 'half_cheetah')
  assert config.meta.inner_lr == 0.5
  assert workdir == pathlib.Path('runs/point')
  assert _parse('--config=point:8').config.seed == 8


@pytest.fixture
def other() -> Iterator[str]:
  """An algorithm `other` whose only section of its own is a planner."""
  module = types.ModuleType('other_package.config')
  exec(_OTHER, module.__dict__)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, 'other_package', types.ModuleType('package'))
    patch.setitem(sys.modules, 'other_package.config', module)
    patch.setattr(algorithms, '_PACKAGES', dict(algorithms._PACKAGES))
    algorithms.register('other', 'other_package')
    yield (
      'import sys\n'
      "get = sys.modules['other_package.config'].Config\n"
      'def get_config():\n  return get()\n'
    )


_OTHER = """
import dataclasses
from typing import ClassVar
from mbmpo_jax import config

@dataclasses.dataclass(unsafe_hash=True)
class Planner:
  horizon: int = config.setting(10, low=1, high=100)

@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  algorithm: ClassVar[str] = 'other'
  planner: Planner = dataclasses.field(default_factory=Planner)
"""


def test_fields_are_those_of_the_algorithm_that_the_file_returns(
  other: str, tmp_path: pathlib.Path
) -> None:
  """Its own are set; another's are refused, as a sweep of what it lacks."""
  folder = tmp_path / 'other'
  folder.mkdir()
  path = folder / 'world.py'
  path.write_text(other)
  arguments = _parse(f'--config={path}', '--config.planner.horizon=5')
  assert arguments.config.planner.horizon == 5
  assert arguments.workdir == pathlib.Path('runs/other/world')
  for argument, said in (
    ('--config.meta.inner_lr=1', 'has no such field; known names are seed,'),
    ('--config.planner.horizn=1', "field .did you mean 'planner.horizon'"),
    ('--config.planner.horizon=0', 'planner.horizon=0: must be an int >= 1'),
  ):
    with pytest.raises(config_lib.ConfigError, match=said) as error:
      _parse(f'--config={path}', argument)
    assert '\n' not in str(error.value)
  for argument, said in (
    ('--sweep.meta.inner_lr=1', 'has no such field; fields that can be'),
    ('--sweep.planner.horizon=1', 'cannot be swept; .* be swept: none'),
  ):
    with pytest.raises(config_lib.ConfigError, match=said) as error:
      sweep_flags.parse(
        ['sweep.py', f'--config={path}', argument],
        default_config=_CONFIGS / 'point.py',
        flag_values=flags.FlagValues(),
      )
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('argument', 'said'),
  [
    ('--workdirr=x', ['--workdirr=x', "'workdir'", '--config.<field>']),
    ('--bogus', ['--bogus', '--workdir']),
    ('seed=3', ['seed=3', '--flag=value']),
    ('--config.meta.inner_rl=1', ['inner_rl=1', "'meta.inner_lr'"]),
    ('--config.meta.xxxxxxxx=1', ['xxxxxxxx=1', 'meta.inner_lr']),
    ('--config.nope=1', ['nope=1', 'seed, env, collect, run, policy']),
    ('--config.imagine.horizon=1', ["'mbmpo' has no such field"]),
    ('--config.algorithm=me_trpo', ['<algorithm>/<preset>', 'mbmpo']),
    ('--config.planner.horizon=1', ["'mbmpo' has no such field"]),
    ('--config.model_rollouts.horizon=-1', ['horizon=-1', 'an int >= 1']),
    ('--config.model.num_models=0', ['model.num_models=0', 'an int >= 1']),
    ('--config.meta=1', ['--config.meta=1', 'section', 'meta.inner_lr']),
    ('--config.seed=abc', ['--config.seed=abc', 'an int >= 0']),
    ('--config.seed', ['--config.seed']),
    ('--config.trust_region.max_kl=x', ['trust_region.max_kl=x', 'float > 0']),
    ('--config.policy.learn_std=2', ['learn_std=2', 'True or False']),
    ('--config.model.hidden_sizes=(8,a)', ['hidden_sizes', 'tuple of int']),
    ('--config.advantage.discount=2', ['advantage.discount=2', '<= 1']),
    ('--config.meta.inner_objective=x', ["'x'", "'log_likelihood'"]),
    ('--config=nowhere/a.py', ['nowhere/a.py', 'half_cheetah_quick.py']),
    (f'--config={_CONFIGS}/pont.py', ['pont.py', "mean 'point.py'"]),
    ('--config=', ['--config=', 'mbmpo/point']),
    ('--config=pont', ['--config=pont', "mean 'point'", 'mbmpo/hopper']),
    ('--config=mbmpo/hoper', ['mbmpo/hoper', "preset (did you mean 'hopper'"]),
    ('--config=mbmo/point', ['mbmo/point', "algorithm (did you mean 'mbmpo'"]),
    ('--config=mbmo/point:a', ['mbmo/point:a', "mean 'mbmpo'"]),
    ('--flagfile=/nowhere', ['/nowhere']),
    ('--workdir=', ['--workdir']),
    ('--num_devices=0', ['--num_devices=0', 'positive']),
    ('--num_device=2', ['--num_device=2', "mean 'num_devices'"]),
    ('--process_id=1', ['--coordinator_address: is missing']),
    ('--process_id=-1', ['--process_id=-1']),
  ],
)
def test_mistake_is_one_line_with_what_is_allowed(
  argument: str, said: list[str]
) -> None:
  """The message names flag, value and what would be right."""
  with pytest.raises(config_lib.ConfigError) as error:
    _parse(argument)
  message = str(error.value)
  assert '\n' not in message
  for words in said:
    assert words in message


def test_processes_are_named_together() -> None:
  """All three flags or none; those given are enough."""
  cluster = ['--coordinator_address=a:1', '--num_processes=2']
  *_, devices, _ = _parse(*cluster, '--process_id=1', '--num_devices=8')
  assert devices == (8, True, 'a:1', 2, 1)
  for arguments, said in (
    ([*cluster, '--process_id=2'], '--process_id=2: must be < 2'),
    (cluster, '--process_id: is missing'),
    (['--coordinator_address=a', *cluster[1:], '--process_id=0'], 'host:port'),
  ):
    with pytest.raises(config_lib.ConfigError, match=said):
      _parse(*arguments)


def test_a_warning_is_one_line_in_a_command() -> None:
  """Those to users; Python's own lines of any other, and outside."""

  def shown(category: type[Warning]) -> str:
    return warnings.formatwarning('rows are lost', category, __file__, 1)

  before = shown(UserWarning)
  assert before.startswith(__file__)
  for error in (None, config_lib.ConfigError('wrong')):
    with contextlib.suppress(SystemExit), training_flags.one_line_errors():
      assert shown(UserWarning) == 'warning: rows are lost\n'
      assert shown(RuntimeWarning).startswith(__file__)
      if error:
        raise error
    assert shown(UserWarning) == before


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    ('def get_config():\n  return int("a")\n', ['line 2', 'ValueError', "'a'"]),
    ('def get_config(:\n', ['SyntaxError', 'line 1']),
    ('import nope_nope\n', ['line 1', 'nope_nope']),
    ('x = 1\n', ['get_config']),
    ('def get_config():\n  return {}\n', ['Config, not dict']),
    ('def get_config():\n  pass\n', ['Config, not NoneType']),
    (
      'from mbmpo_jax.config import Experiment as get_config\n',
      ["algorithm=''", 'mbmpo'],
    ),
    (
      'from mbmpo_jax.config import Experiment\n'
      'class Config(Experiment):\n  algorithm = "mbpo"\n'
      'get_config = Config\n',
      ["algorithm='mbpo'", "mean 'mbmpo'"],
    ),
  ],
)
def test_broken_config_file_is_one_line(
  text: str, said: list[str], tmp_path: pathlib.Path
) -> None:
  """Whatever the file raises, its name and line are told."""
  path = tmp_path / 'broken.py'
  path.write_text(text)
  with pytest.raises(config_lib.ConfigError) as error:
    _parse(f'--config={path}')
  message = str(error.value)
  assert '\n' not in message
  for words in [str(path), *said]:
    assert words in message


def test_what_follows_the_colon_is_named_without_the_place_in_our_code():
  with pytest.raises(config_lib.ConfigError) as error:
    _parse('--config=mbmpo/benchmark:cartpol')
  start = "--config=mbmpo/benchmark:cartpol: world='cartpol': must be one of"
  assert str(error.value).startswith(start)


def test_a_refused_value_in_a_file_has_its_line(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'mine.py'
  path.write_text(
    'from mbmpo_jax.training.launch import benchmark\n'
    "def get_config():\n  return benchmark.config('mbmpo', 'cartpol')\n"
  )
  with pytest.raises(config_lib.ConfigError) as error:
    _parse(f'--config={path}')
  assert str(error.value).startswith(
    f"--config={path}: line 3: world='cartpol'"
  )


@pytest.mark.parametrize(
  ('argument', 'said'),
  [
    ('--config.meta.inner_rl=0.1', 'meta.inner_lr'),
    ('--config=mbmo/point', 'mbmpo'),
    ('--config.env.name=half_chetah', 'half_cheetah'),
  ],
)
def test_binary_exits_with_2_one_line_and_writes_nothing(
  argument: str, said: str, tmp_path: pathlib.Path
) -> None:
  """From another folder; the second mistake is only seen after imports."""
  done = subprocess.run(
    [sys.executable, str(_ROOT / 'experiments' / 'train.py'), argument],
    cwd=tmp_path,
    # On one device: the suite's eight do not divide the default's 20 tasks.
    env={**os.environ, 'PYTHONPATH': str(_ROOT), 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert done.stdout == ''
  assert done.stderr.count('\n') == 1
  assert said in done.stderr
  assert list(tmp_path.iterdir()) == []
