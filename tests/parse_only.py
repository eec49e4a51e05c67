"""Programs that only read their command lines: many of them in one process.

  python tests/parse_only.py <command lines >results

Reads a JSON list of command lines, each what follows `python`. For each one it
runs the program in a fork, where `app.run` parses the flags and stops, and
writes a JSON list of exit codes and of what was said: 0, or 2 and what is wrong
with the flags. What many programs import is imported once.
"""

import json
import os
import pathlib
import re
import runpy
import sys
import tempfile
import traceback

import matplotlib  # noqa: F401
import ml_collections  # noqa: F401
from absl import app
from absl import flags

from mbmpo_jax import algorithms
from mbmpo_jax import envs  # noqa: F401

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# What make runs by `python -m`; these need not be installed here.
_TOOLS = ('mypy', 'pip', 'pytest', 'ruff', 'sphinx')


def main() -> None:
  """Every command line of standard input."""
  for name in algorithms.names():
    algorithms.metrics(name)  # Imports it.
  app.run = _parse
  command_lines = json.load(sys.stdin)
  # Whatever programs print goes into files of their own.
  print(json.dumps([_in_a_fork(arguments) for arguments in command_lines]))


def _in_a_fork(arguments: list[str]) -> tuple[int, str]:
  with tempfile.TemporaryFile('w+') as said:
    process = os.fork()
    if not process:
      os.dup2(said.fileno(), 1)
      os.dup2(said.fileno(), 2)
      code = 1
      try:
        _run(arguments)
        code = 0
      except SystemExit as stopped:
        if isinstance(stopped.code, str):
          print(stopped.code)
        else:
          code = stopped.code or 0
      except BaseException:
        traceback.print_exc()
      finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(process, 0)
    said.seek(0)
    return os.waitstatus_to_exitcode(status), said.read()


def _run(arguments: list[str]) -> None:
  program, *rest = arguments
  if (program, rest[:1]) == ('-m', ['mbmpo_jax']):
    program, rest = f'experiments/{rest[1]}.py', rest[2:]
    arguments = [program, *rest]
  if program == '-m':
    if rest[0] not in _TOOLS:
      sys.exit(f'No module named {rest[0]}')
  elif not (_ROOT / program).is_file():
    sys.exit(f"can't open file {program!r}: no such file")
  # Examples and tests have no flags.
  elif re.match(r'(experiments(/figures)?|benchmarks)/\w+\.py$', program):
    sys.argv = arguments
    runpy.run_path(str(_ROOT / program), run_name='__main__')
  for file in re.findall(r'tests/\w+\.py', ' '.join(rest)):
    if not (_ROOT / file).is_file():
      sys.exit(f'{file}: no such file')


def _parse(main, argv=None, flags_parser=None) -> None:
  del main
  argv = argv or sys.argv
  try:
    if flags_parser:
      flags_parser(argv)
      return
    if rest := flags.FLAGS(argv)[1:]:
      raise flags.Error(f'{rest[0]}: unexpected argument')
  except flags.Error as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
