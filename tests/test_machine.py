"""The record of the machine and the versions that made a run."""

import json
import pathlib
import platform
import shutil
import subprocess

import pytest

from mbmpo_jax.training import machine


def test_processors_of_one_name_are_told_apart(tmp_path):
  """As virtual machines list them; a system that lists none has a name too."""
  listed = tmp_path / 'cpuinfo'
  listed.write_text(
    ''.join(
      f'processor\t: {index}\ncpu family\t: 26\nmodel\t\t: 2\n'
      'model name\t: AMD EPYC\npower management:\n\n'
      for index in range(2)
    )
  )
  assert machine.cpu_name(str(listed)) == 'AMD EPYC, family 26, model 2'
  absent = machine.cpu_name(str(tmp_path / 'absent'))
  assert absent == platform.processor()


def test_the_commit_is_that_of_the_package(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
  """Not of the current folder, nor of a repository that ignores the package."""
  package = tmp_path / 'package'
  package.mkdir()
  file = package / '__init__.py'
  file.write_text('')
  if shutil.which('git') is None:
    pytest.skip('needs git')
  monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
  monkeypatch.setenv('GIT_CONFIG_GLOBAL', '/dev/null')
  monkeypatch.setenv('GIT_CONFIG_NOSYSTEM', '1')
  monkeypatch.delenv('GIT_DIR', raising=False)
  assert machine.commit(package) == 'unknown'
  git = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a']
  subprocess.run([*git, 'init', '-q'], check=True)
  assert machine.commit(package) == 'unknown'
  subprocess.run([*git, 'add', '.'], check=True)
  subprocess.run([*git, 'commit', '-q', '-m', 'a'], check=True)
  made = machine.commit(package)
  assert len(made) == 12 and int(made, 16)
  (tmp_path / 'notes.txt').write_text('beside the package')
  subprocess.run([*git, 'tag', '-a', 'v1', '-m', 'v1'], check=True)
  assert machine.commit(package) == made
  file.write_text('changed')
  assert machine.commit(package) == f'{made}-dirty'
  file.write_text('')
  (package / 'new.py').write_text('')
  assert machine.commit(package) == f'{made}-dirty'
  monkeypatch.setenv('PATH', '')
  assert machine.commit(package) == 'unknown'


def test_a_run_records_each_change_of_the_machine(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
  path = tmp_path / 'machines.jsonl'

  def start(first: int, **here: str) -> list[dict[str, str]]:
    monkeypatch.setattr(machine, 'describe', lambda: here)
    machine.record(path, first)
    return [json.loads(line) for line in path.read_text().splitlines()]

  assert start(0, cpu='a', commit='x') == [
    {'iteration': 0, 'cpu': 'a', 'commit': 'x'}
  ]
  assert len(start(3, cpu='a', commit='x')) == 1
  assert start(5, cpu='a', commit='y')[1:] == [
    {'iteration': 5, 'cpu': 'a', 'commit': 'y'}
  ]
  # A field less is also a change.
  assert start(7, cpu='a')[2:] == [{'iteration': 7, 'cpu': 'a'}]
  # The run continues before the last changes, which count no more.
  assert [x['iteration'] for x in start(5, cpu='c')] == [0, 5]
  with path.open('a') as file:
    file.write('[]\n{"iteration": 9, "cp')
  assert [x['iteration'] for x in start(9, cpu='b')] == [0, 5, 9]
