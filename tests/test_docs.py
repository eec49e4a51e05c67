"""What README and docs say can be typed, pasted and clicked."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from mbmpo_jax import validation
from mbmpo_jax.rollouts import real
from mbmpo_jax.rollouts import imagined
from mbmpo_jax.training import grid
from mbmpo_jax.training import run
from tests import documents

_COMMANDS = documents.commands()
_PYTHON = [b for b in documents.blocks() if b.language == 'python']

# Commands that are not executed, and why.
_SKIPPED = {
  r'EXTRAS=cuda': 'needs an NVIDIA GPU',
  r'PYTHON=python3\.': 'needs another Python',
  r'CONSTRAINTS=': 'installs',
  r'pip install': 'installs',
  r'own_environment': 'test_examples.py runs it at its full size',
  r'--env=all': 'compiles every environment, minutes',
}


def test_there_is_something_to_test() -> None:
  assert len(_COMMANDS) >= 10
  assert len(_PYTHON) >= 2


def test_every_block_says_what_it_is() -> None:
  """So that no command hides in a block that no test reads."""
  for block in documents.blocks():
    directive = block.language.startswith('{')
    known = block.language in ('sh', 'python', 'text')
    assert directive or known, block.where


@pytest.fixture(scope='module')
def parsing(tmp_path_factory) -> pathlib.Path:
  """A copy in which programs only read their flags."""
  return documents.copy(tmp_path_factory.mktemp('parsing'), parse_only=True)


@pytest.mark.parametrize(
  'command',
  [pytest.param(c, id=w) for c, w in _COMMANDS.items() if c[:4] != 'pip '],
)
def test_every_command_can_be_parsed(command, parsing) -> None:
  """It names no target, flag, field or value that is not there."""
  if re.search(r'EXTRAS=|PYTHON=|make (lint|format|docs|clean)', command):
    command = command.replace('make', 'make --dry-run', 1)
  done = documents.run(command, parsing, timeout=60)
  assert done.returncode == 0, done.stdout
  assert 'error:' not in done.stdout  # A block may not wait for a program.


@pytest.mark.parametrize(
  ('command', 'said'),
  [
    ('make trian', "No rule to make target 'trian'"),
    ('make train ARGS=--nun_devices=2', '--nun_devices=2: unknown flag'),
    ('make train CONFIG=half_cheeta', 'no such file'),
    (
      'python experiments/sweep.py --sweep.meta.inner_rl=1',
      "unknown field (did you mean 'meta.inner_lr'?)",
    ),
    ('make bench ARGS=--scale=papre', 'papre'),
    ('python experiments/trian.py', 'trian.py'),
  ],
)
def test_a_mistyped_command_is_found(command, said, parsing) -> None:
  """What the test above would say of it."""
  done = documents.run(command, parsing, timeout=60)
  assert done.returncode
  assert said in done.stdout


def test_every_flag_is_one() -> None:
  """Flags within sentences: of some program, of a field, of a sweep."""
  sources = ''.join(
    path.read_text(encoding='utf-8')
    for folder in ('experiments', 'benchmarks', 'mbmpo_jax/training')
    for path in (documents.ROOT / folder).rglob('*.py')
  )
  defined = re.findall(r"DEFINE_\w+\(\s*'(\w+)'", sources)
  fields = validation.allowed_values()
  known = {
    *defined,
    *('config', 'help', 'helpfull', 'debug', 'verbosity'),
    *(f'config.{name}' for name in fields),
    *(f'sweep.{name}' for name in grid.SWEEPABLE),
  }
  for span, page in documents.spans():
    if span.startswith('--'):
      for name in re.findall(r'(?<!\S)--([\w.]+)', span):
        assert name.rstrip('.') in known, f'{page}: {span}'


def test_every_field_is_one() -> None:
  """`meta.inner_lr` and the like; modules share some sections' names."""
  fields = validation.allowed_values()
  sections = {name.partition('.')[0] for name in fields if '.' in name}
  modules = {'collect': collect, 'imagine': imagine, 'run': run}
  for span, page in documents.spans():
    match = re.fullmatch(r'(\w+)\.(?!(?:py|html|mp4)$)(\w+)(=.*)?', span)
    if match and match[1] in sections:
      known = f'{match[1]}.{match[2]}' in fields
      module = modules.get(match[1])
      assert known or hasattr(module, match[2]), f'{page}: {span}'


@pytest.mark.parametrize('page', documents.files(), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page) -> None:
  """Within the repository."""
  text = page.read_text(encoding='utf-8')
  for target in re.findall(r'\]\(([^)#\s]+)[^)]*\)', text):
    if '://' not in target and not target.startswith('generated/'):
      assert (page.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize(
  'command', [pytest.param(c, id=w) for c, w in _COMMANDS.items()]
)
def test_every_command_runs(command, tmp_path) -> None:
  """In a copy of the repository, with small sizes."""
  for pattern, reason in _SKIPPED.items():
    if re.search(pattern, command):
      pytest.skip(reason)
  if command == 'make docs':
    pytest.importorskip('myst_nb', reason='needs the extra `docs`')
  folder = documents.copy(tmp_path)
  done = documents.run(command, folder)
  assert done.returncode == 0, done.stdout
  trains = re.search(r'make train|(train|sweep)\.py', command)
  if trains:
    assert 'far too small' in done.stdout
    assert list(folder.glob('runs/**/metrics.jsonl'))


@pytest.mark.slow
@pytest.mark.parametrize('block', _PYTHON, ids=lambda block: block.where)
def test_every_python_block_runs(block, tmp_path) -> None:
  """As a program of its own, its configurations made small."""
  script = tmp_path / 'block.py'
  script.write_text(block.text, encoding='utf-8')
  _run_python('-m', 'tests.shrunk', script)


def _run_python(*arguments: object) -> None:
  done = subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=documents.ROOT,
    env={**os.environ, 'PYTHONPATH': str(documents.ROOT)},
    check=False,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_notebook_runs(tmp_path) -> None:
  """Two rounds of it, with small sizes; what it shows is committed."""
  nbformat = pytest.importorskip('nbformat', reason='needs the extra `docs`')
  notebook = nbformat.read(documents.ROOT / 'docs' / 'embedding.ipynb', 4)
  cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert all(cell.outputs for cell in cells if 'plt.show()' in cell.source)
  (sizes,) = (cell for cell in cells if 'ROUNDS = ' in cell.source)
  sizes.source = re.sub(r'ROUNDS = \d+', 'ROUNDS = 2', sizes.source)
  small = 'from tests import shrunk\nshrunk.shrink()'
  notebook.cells.insert(0, nbformat.v4.new_code_cell(small))
  path = tmp_path / 'embedding.ipynb'
  nbformat.write(notebook, path)
  execute = 'from nbclient import cli; cli.main()'
  _run_python('-c', execute, '--inplace', path)
  cells = nbformat.read(path, 4).cells
  text = ''.join(o.get('text', '') for c in cells for o in c.get('outputs', []))
  assert '400 transitions: return' in text
