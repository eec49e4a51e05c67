"""The wheel holds the package, all of it, and works without the repository."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from mbmpo_jax.training.launch import tiny

_ROOT = pathlib.Path(__file__).resolve().parents[1]

_PROGRAM = """
import importlib.metadata
import pathlib
import sys

import mbmpo_jax
from mbmpo_jax import algorithms
from mbmpo_jax.training import loop
from mbmpo_jax.training.launch import tiny

package = pathlib.Path(mbmpo_jax.__file__).parent
assert package.is_relative_to(sys.prefix), package
assert (package / 'py.typed').exists()
files = [str(file) for file in importlib.metadata.files('mbmpo-jax')]
assert any(name.endswith('licenses/LICENSE') for name in files), files

settings = tiny.shrink(algorithms.config('mbmpo')())
settings.run.num_iterations = 1
assert settings.env.name == 'half_cheetah'
row = loop.train(settings, 'run')
assert row['env_steps'] == 100, row
"""


def _run(*command: object, cwd: pathlib.Path, **kwargs) -> None:
  done = subprocess.run(
    [str(word) for word in command],
    cwd=cwd,
    check=False,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    **kwargs,
  )
  assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_wheel_trains_outside_the_repository(tmp_path, monkeypatch) -> None:
  """In an environment of its own, which lends the packages of this one."""
  pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
  _run(
    *(*pip, 'wheel', '--no-deps', '--no-build-isolation'),
    *('--wheel-dir', tmp_path, _ROOT),
    cwd=tmp_path,
  )
  (wheel,) = tmp_path.glob('*.whl')
  packed = set(zipfile.ZipFile(wheel).namelist())
  for path in (_ROOT / 'mbmpo_jax').rglob('*'):
    if path.is_file() and '__pycache__' not in path.parts:
      assert str(path.relative_to(_ROOT)) in packed
  configs = _ROOT / 'experiments' / 'configs'
  for path in configs.rglob('*.py'):
    assert f'mbmpo_jax/presets/{path.relative_to(configs)}' in packed

  venv.create(tmp_path / 'venv', symlinks=True)
  python = tmp_path / 'venv' / 'bin' / 'python'
  _run(
    *(*pip, '--python', python, 'install', '--no-deps', '--no-index', wheel),
    cwd=tmp_path,
  )
  # A .pth file within that folder is not read: no way to the repository.
  (site_packages,) = (tmp_path / 'venv' / 'lib').glob('*/site-packages')
  lent = sysconfig.get_path('purelib')
  (site_packages / 'lent.pth').write_text(f'{lent}\n')
  monkeypatch.delenv('PYTHONPATH', raising=False)
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  outside = tmp_path / 'outside'
  outside.mkdir()
  (outside / 'program.py').write_text(_PROGRAM)
  _run(python, 'program.py', cwd=outside)
  assert (outside / 'run' / 'metrics.jsonl').exists()

  mbmpo = python.with_name('mbmpo')
  small = {**os.environ, tiny.VARIABLE: '1'}
  for words in (
    ('train', 'mbmpo/point', '--config.run.num_iterations=1'),
    ('evaluate', 'runs/mbmpo/point'),
    ('render', 'runs/mbmpo/point', '--out=played.html'),
  ):
    _run(mbmpo, *words, cwd=outside, env=small)
  assert (outside / 'played.html').exists()
