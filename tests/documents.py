"""What the documentation tells its reader to type, and a place to try it."""

import ast
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import NamedTuple

from mbmpo_jax.training.launch import tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARSE_ONLY = ROOT / 'tests' / 'parse_only.py'

_FENCE = re.compile(r'^```([^`\n]*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r'(?<!`)`([^`]+)`(?!`)')
_PROGRAMS = ('make', 'mbmpo', 'pip', 'python', '.venv/bin/python')
_COPIED = (
  *('Makefile', 'pyproject.toml', 'constraints.txt', 'README.md'),
  *('CHANGELOG.md', 'WORKSPACE.md', 'LICENSE', 'mbmpo_jax', 'experiments'),
  *('benchmarks', 'docs', 'tests', 'zoo'),
)
# Programs of `.venv/bin`, and what Python is given to be one.
_TOOLS = (
  ('python', ()),
  *((name, ('-m', name)) for name in ('mypy', 'ruff')),
  ('mbmpo', ('-m', 'mbmpo_jax')),
)


class Block(NamedTuple):
  """A fenced block."""

  where: str  # file:line
  language: str
  text: str


def files() -> list[pathlib.Path]:
  """The pages a reader may follow."""
  pages = [ROOT / name for name in ('README.md', 'WORKSPACE.md')]
  return [*pages, ROOT / 'benchmarks/README.md', *(ROOT / 'docs').glob('*.md')]


def blocks() -> list[Block]:
  """Every fenced block of every page."""
  found = []
  for page in files():
    text = page.read_text(encoding='utf-8')
    for match in _FENCE.finditer(text):
      line = text.count('\n', 0, match.start()) + 1
      where = f'{page.relative_to(ROOT)}:{line}'
      found.append(Block(where, match[1], match[2]))
  return found


def spans() -> list[tuple[str, str]]:
  """Every piece of code within a sentence, and the page it is on."""
  return [
    (' '.join(match[1].split()), str(page.relative_to(ROOT)))
    for page in files()
    for match in _INLINE.finditer(
      _FENCE.sub('', page.read_text(encoding='utf-8'))
    )
  ]


def modules() -> dict[str, set[str]]:
  """What the package's modules hold, and their classes, by a module's name."""
  found: dict[str, set[str]] = {}
  for path in (ROOT / 'mbmpo_jax').rglob('*.py'):
    name = path.parent.name if path.stem == '__init__' else path.stem
    names = found.setdefault(name, set())
    found.setdefault(path.parent.name, set()).add(path.stem)
    tree = ast.parse(path.read_text(encoding='utf-8'))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in (*tree.body, *(n for c in classes for n in c.body)):
      targets = [*getattr(node, 'targets', ()), getattr(node, 'target', node)]
      names.update(x.id for x in targets if isinstance(x, ast.Name))
      names.update(alias.asname or alias.name for alias in _imported(node))
      names.add(getattr(node, 'name', ''))
  return found


def _imported(node: ast.AST) -> list[ast.alias]:
  return node.names if isinstance(node, ast.ImportFrom) else []


def commands() -> dict[str, str]:
  """Every block of commands and every command within a sentence, once.

  Returns:
    Where it stands first, `file:line` or `file`, by its text.
  """
  found: dict[str, str] = {}
  for block in blocks():
    if block.language == 'sh':
      found.setdefault(block.text.strip(), block.where)
  for span, page in spans():
    # `make` alone is a word, `pip install ...` an abbreviation.
    is_command = span.startswith(tuple(f'{name} ' for name in _PROGRAMS))
    if is_command and '...' not in span:
      found.setdefault(span, page)
  return found


def copy(folder: pathlib.Path) -> pathlib.Path:
  """A copy of the repository whose `.venv` is this interpreter."""
  for name in _COPIED:
    source = ROOT / name
    if source.is_dir():
      shutil.copytree(
        source,
        folder / name,
        ignore=shutil.ignore_patterns('__pycache__', '_build', 'generated'),
      )
    elif source.exists():
      shutil.copy2(source, folder)
  _make_venv(
    folder, {name: _exec(sys.executable, *rest) for name, rest in _TOOLS}
  )
  return folder


def parse(
  commands: Iterable[str], folder: pathlib.Path
) -> dict[str, tuple[int, str]]:
  """Has programs only read the command lines that shell commands make of them.

  The shell and make run as they would; `python` takes notes of what it is
  given, and `parse_only.py` then parses the notes in one process.

  Args:
    commands: blocks of commands.
    folder: an empty one, in which they run.

  Returns:
    For each, the first exit code that is not 0, and all that was said.
  """
  # What make wants; it finds no program there, and runs none.
  for name in ('Makefile', 'pyproject.toml', 'constraints.txt'):
    shutil.copy2(ROOT / name, folder)
  note = 'printf \'%s\\0\' {} "$@" >"$(mktemp "$NOTES/XXXXXX")"'
  _make_venv(folder, {name: note.format(shlex.join(r)) for name, r in _TOOLS})
  notes = folder / 'notes'
  found: dict[str, tuple[int, str]] = {}
  lines: list[tuple[str, list[str]]] = []
  for command in commands:
    notes.mkdir()
    done = run(command, folder, timeout=60, NOTES=str(notes))
    found[command] = done.returncode, done.stdout
    for path in notes.iterdir():
      lines.append((command, path.read_text().split('\0')[:-1]))
    shutil.rmtree(notes)
  done = subprocess.run(
    [sys.executable, PARSE_ONLY],
    input=json.dumps([arguments for _, arguments in lines]),
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  for (command, _), (code, said) in zip(
    lines, json.loads(done.stdout), strict=True
  ):
    found[command] = found[command][0] or code, found[command][1] + said
  return found


def _exec(*command: str) -> str:
  return f'exec {shlex.join(command)} "$@"'


def _make_venv(folder: pathlib.Path, scripts: dict[str, str]) -> None:
  """A `.venv` of shell scripts, in which all is installed."""
  bin_folder = folder / '.venv' / 'bin'
  bin_folder.mkdir(parents=True)
  for name, text in scripts.items():
    path = bin_folder / name
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
  for stamp in ('base', 'dev', 'docs'):
    (folder / '.venv' / f'.installed-{stamp}').touch()


def run(
  command: str, folder: pathlib.Path, *, timeout: float = 900, **variables: str
) -> subprocess.CompletedProcess[str]:
  """Runs a block of commands in a copy of the repository, with small sizes."""
  environment = {
    **os.environ,
    **variables,
    tiny.VARIABLE: '1',
    # The suite's commands: what they would run.
    'PYTEST_ADDOPTS': '--collect-only --quiet -p no:cacheprovider',
    'PYTHONPATH': str(folder),
    'PATH': f'{folder}/.venv/bin{os.pathsep}{os.environ["PATH"]}',
  }
  # The suite's simulated devices, and what makes `make` a child of another.
  for name in ('XLA_FLAGS', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS'):
    environment.pop(name, None)
  arguments = ['bash', '-euc', command]
  with subprocess.Popen(
    arguments,
    cwd=folder,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  ) as process:
    try:
      said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
      os.killpg(process.pid, signal.SIGKILL)  # The shell's programs, too.
      raise
  return subprocess.CompletedProcess(arguments, process.returncode, said)
