"""What README and docs say can be typed, pasted and clicked."""

import os
import re
import subprocess
import sys

import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base as algorithms_base
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import base as models_base
from mbmpo_jax.policies import base as policies_base
from mbmpo_jax.policies import distributions
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
  r'--branch_from': 'needs a finished run; test_branching.py makes one',
  r'my_tasks': 'needs a module of the reader',
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


# Commands that must be refused, and what must be said of them.
_MISTYPED = {
  'make trian': "No rule to make target 'trian'",
  'make train ARGS=--nun_devices=2': '--nun_devices=2: unknown flag',
  'make train CONFIG=half_cheeta': 'no such file or preset',
  'make train CONFIG=mbmpo/half_cheeta': "did you mean 'half_cheetah'?",
  'make train CONFIG=me_trpo/point ARGS=--config.meta.inner_lr=1': (
    "algorithm 'me_trpo' has no such field"
  ),
  'python experiments/sweep.py --sweep.meta.inner_rl=1': (
    "did you mean 'meta.inner_lr'?"
  ),
  'make bench ARGS=--scale=papre': 'papre',
  'make test ARGS=tests/test_tpro.py': 'tests/test_tpro.py: no such file',
  'python experiments/trian.py': 'trian.py',
}


@pytest.fixture(scope='module')
def parsed(tmp_path_factory) -> dict[str, tuple[int, str]]:
  """What becomes of every command whose programs only read their flags."""
  commands = [c for c in _COMMANDS if not re.match('pip |make clean', c)]
  return documents.parse(
    [*commands, *_MISTYPED], tmp_path_factory.mktemp('parsing')
  )


def test_every_command_can_be_parsed(parsed) -> None:
  """It names no target, flag, field or value that is not there."""
  for command, (code, said) in parsed.items():
    # A block may not wait for a program.
    if command not in _MISTYPED:
      assert not code and 'error:' not in said, f'{command}\n{said}'


def test_mistyped_commands_are_found(parsed) -> None:
  """What the test above would say of them."""
  for command, expected in _MISTYPED.items():
    code, said = parsed[command]
    assert code, command
    assert expected in said, command


_KINDS = [algorithms.config(name) for name in algorithms.names()]
_FIELDS = {name for kind in _KINDS for name in validation.allowed_values(kind)}


def test_every_flag_is_one() -> None:
  """Flags within sentences: of some program, of a field, of a sweep."""
  sources = ''.join(
    path.read_text(encoding='utf-8')
    for folder in ('experiments', 'benchmarks', 'mbmpo_jax/training')
    for path in (documents.ROOT / folder).rglob('*.py')
  )
  defined = re.findall(r"DEFINE_\w+\(\s*'(\w+)'", sources)
  known = {
    *defined,
    *('config', 'help', 'helpfull', 'debug', 'verbosity'),
    *(f'config.{name}' for name in _FIELDS),
    *(f'sweep.{n}' for kind in _KINDS for n in config_lib.sweepable(kind)),
  }
  for span, page in documents.spans():
    if span.startswith('--'):
      for name in re.findall(r'(?<!\S)--([\w.]+)', span):
        assert name.rstrip('.') in known, f'{page}: {span}'


# `owner.name`, but no file's name.
_DOTTED = re.compile(r'(\w+)\.(?!(?:\w+\.)*(?:py|jsonl?|html|mp4)\b)(\w+)')
# What is called so on the pages, and what it has.
_OBJECTS: dict[str, tuple[type, ...]] = {
  'action': (policies_base.Action,),
  'algorithm': (algorithms_base.Algorithm,),
  'counters': (algorithms_base.Counters,),
  'dist': (distributions.Gaussian,),
  'dynamics': (models_base.Dynamics,),
  'env': (envs_base.Environment,),
  'policy': (policies_base.Policy,),
}


def test_every_name_is_one() -> None:
  """`meta.inner_lr`, `trpo.trpo_step`, `policy.act` and the like.

  A name before a point is a section of a configuration, a module, or an object
  of one of the contracts; what stands behind it must be there.
  """
  sections = {name.partition('.')[0] for name in _FIELDS if '.' in name}
  modules = documents.modules()
  for span, page in documents.spans():
    match = _DOTTED.match(span)
    if match is None:
      continue
    owner, name = match.groups()
    objects = _OBJECTS.get(owner, ())
    if owner in sections or owner in modules or objects:
      known = f'{owner}.{name}' in _FIELDS
      known = known or name in modules.get(owner, ())
      assert known or any(hasattr(x, name) for x in objects), f'{page}: {span}'


def test_every_path_is_one() -> None:
  """`optim/trpo.py` and the like: in the package, or in the repository."""
  for span, page in documents.spans():
    roots = [documents.ROOT / folder for folder in ('mbmpo_jax', '.')]
    roots.append((documents.ROOT / page).parent)
    if re.fullmatch(r'[\w/]+/\w+\.(py|md|ipynb|xml|json)', span):
      assert any((root / span).exists() for root in roots), f'{page}: {span}'


@pytest.mark.parametrize('page', documents.files(), ids=lambda page: page.name)
def test_every_table_has_a_header(page) -> None:
  """Without one, or after an empty line, rows are shown as a paragraph."""
  text = re.sub(r'(?ms)^```.*?^```$', '', page.read_text(encoding='utf-8'))
  for table in re.findall(r'(?m)(?:^\|.*\n?)+', text):
    rows = table.splitlines()
    rule = rows[1] if len(rows) > 1 else ''
    assert re.fullmatch(r'\|( *:?-+:? *\|)+', rule), f'{page}: {rows[0]}'
    assert all(_cells(row) == _cells(rule) for row in rows), (
      f'{page}: {rows[0]}'
    )


def _cells(row: str) -> int:
  """Number of cells; a bar in code or after a backslash is no border."""
  return re.sub(r'`[^`]*`|\\\|', '', row).count('|') - 1


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
    assert 'all sizes are reduced' in done.stdout
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
