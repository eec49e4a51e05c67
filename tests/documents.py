"""What the documentation tells its reader to type, and a place to try it."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple

from mbmpo_jax.training.launch import tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARSE_ONLY = ROOT / 'tests' / 'parse_only.py'

_FENCE = re.compile(r'^```([^`\n]*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r'(?<!`)`([^`]+)`(?!`)')
_PROGRAMS = ('make', 'pip', 'python', '.venv/bin/python')
_COPIED = (
  *('Makefile', 'pyproject.toml', 'constraints.txt', 'README.md'),
  *('CHANGELOG.md', 'WORKSPACE.md', 'LICENSE', 'mbmpo_jax', 'experiments'),
  *('benchmarks', 'docs', 'tests'),
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


def copy(folder: pathlib.Path, *, parse_only: bool = False) -> pathlib.Path:
  """A copy of the repository whose `.venv` is this interpreter.

  Args:
    folder: where it goes.
    parse_only: whether programs only read their command line.
  """
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
  bin_folder = folder / '.venv' / 'bin'
  bin_folder.mkdir(parents=True)
  python = [sys.executable, *([str(PARSE_ONLY)] if parse_only else [])]
  _script(bin_folder / 'python', python)
  for name in ('mypy', 'ruff'):
    _script(bin_folder / name, [sys.executable, '-m', name])
  for stamp in ('base', 'dev', 'docs'):
    (folder / '.venv' / f'.installed-{stamp}').touch()
  return folder


def _script(path: pathlib.Path, command: list[str]) -> None:
  path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
  path.chmod(0o755)


def run(
  command: str, folder: pathlib.Path, *, timeout: float = 280
) -> subprocess.CompletedProcess[str]:
  """Runs a block of commands in a copy of the repository, with small sizes."""
  environment = {
    **os.environ,
    tiny.VARIABLE: '1',
    # The suite's commands: what they would run.
    'PYTEST_ADDOPTS': '--collect-only --quiet -p no:cacheprovider',
    'PYTHONPATH': str(folder),
    'PATH': f'{folder}/.venv/bin{os.pathsep}{os.environ["PATH"]}',
  }
  # The suite's simulated devices, and what makes `make` a child of another.
  for name in ('XLA_FLAGS', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS'):
    environment.pop(name, None)
  return subprocess.run(
    ['bash', '-euc', command],
    cwd=folder,
    env=environment,
    timeout=timeout,
    check=False,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
