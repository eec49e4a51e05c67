"""The command line: every mistake is one line, exit code 2, nothing written."""

import os
import pathlib
import runpy
import subprocess
import sys

import pytest
from absl import flags

from mbmpo_jax import config as config_lib
from mbmpo_jax.training.launch import flags as training_flags

_ROOT = pathlib.Path(__file__).parents[1]
_CONFIGS = _ROOT / 'experiments' / 'configs'


def _parse(*arguments: str) -> training_flags.Arguments:
  return training_flags.parse(
    ['train.py', *arguments],
    default_config=_CONFIGS / 'half_cheetah_quick.py',
    flag_values=flags.FlagValues(),
  )


def test_default_is_the_quick_preset() -> None:
  """Without flags: the default file, and a folder of its name."""
  config, workdir, devices, debug_nans = _parse()
  preset = runpy.run_path(str(_CONFIGS / 'half_cheetah_quick.py'))
  assert config == preset['get_config']()
  assert workdir == pathlib.Path('runs/half_cheetah_quick')
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
  ('argument', 'said'),
  [
    ('--workdirr=x', ['--workdirr=x', "'workdir'", '--config.<field>']),
    ('--bogus', ['--bogus', '--workdir']),
    ('seed=3', ['seed=3', '--flag=value']),
    ('--config.meta.inner_rl=1', ['inner_rl=1', "'meta.inner_lr'"]),
    ('--config.meta.xxxxxxxx=1', ['xxxxxxxx=1', 'meta.max_kl']),
    ('--config.nope=1', ['nope=1', 'seed, env, policy, model']),
    ('--config.imagine.horizon=-1', ['imagine.horizon=-1', 'an int >= 1']),
    ('--config.model.num_models=0', ['model.num_models=0', 'an int >= 1']),
    ('--config.meta=1', ['--config.meta=1', 'section', 'meta.inner_lr']),
    ('--config.seed=abc', ['--config.seed=abc', 'an int >= 0']),
    ('--config.seed', ['--config.seed']),
    ('--config.meta.max_kl=x', ['--config.meta.max_kl=x', 'float > 0']),
    ('--config.policy.learn_std=2', ['learn_std=2', 'True or False']),
    ('--config.model.hidden_sizes=(8,a)', ['hidden_sizes', 'tuple of int']),
    ('--config.meta.discount=2', ['meta.discount=2', '<= 1']),
    ('--config.meta.inner_objective=x', ["'x'", "'log_likelihood'"]),
    ('--config=nowhere/a.py', ['nowhere/a.py', 'half_cheetah_quick.py']),
    (f'--config={_CONFIGS}/pont.py', ['pont.py', "mean 'point.py'"]),
    ('--config=', ['--config=', 'point.py']),
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


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    ('def get_config():\n  return int("a")\n', ['line 2', 'ValueError', "'a'"]),
    ('def get_config(:\n', ['SyntaxError', 'line 1']),
    ('import nope_nope\n', ['line 1', 'nope_nope']),
    ('x = 1\n', ['get_config']),
    ('def get_config():\n  return {}\n', ['Config, not dict']),
    ('def get_config():\n  pass\n', ['Config, not NoneType']),
  ],
)
def test_broken_config_file_is_one_line(
  text: str,
  said: list[str],
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """Whatever the file raises, its name and line are told."""
  monkeypatch.delitem(sys.modules, 'config_config', raising=False)
  path = tmp_path / 'broken.py'
  path.write_text(text)
  with pytest.raises(config_lib.ConfigError) as error:
    _parse(f'--config={path}')
  message = str(error.value)
  assert '\n' not in message
  for words in [str(path), *said]:
    assert words in message


@pytest.mark.parametrize(
  ('argument', 'said'),
  [
    ('--config.meta.inner_rl=0.1', 'meta.inner_lr'),
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
