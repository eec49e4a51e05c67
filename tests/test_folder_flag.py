"""Programs that take nothing but a folder."""

import subprocess
import sys

import pytest

_PROGRAM = """
from mbmpo_jax.training.launch import folder_flag
folder_flag.run(print, 'runs/here')
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [sys.executable, '-c', _PROGRAM, *arguments],
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  ('arguments', 'folder'),
  [((), 'runs/here'), (('--workdir=there',), 'there')],
)
def test_the_folder(arguments, folder) -> None:
  assert _run(*arguments).stdout == f'{folder}\n'


@pytest.mark.parametrize(
  ('argument', 'said'),
  [
    ('--workdir=', '--workdir: is missing'),
    (
      '--wrkdir=x',
      "--wrkdir=x: unknown flag (did you mean 'workdir'?); known: --workdir",
    ),
    ('x', 'x: unexpected argument; every setting is --flag=value'),
  ],
)
def test_bad_input_is_one_line(argument, said) -> None:
  done = _run(argument)
  assert done.returncode == 2
  assert done.stderr == f'error: {said}\n'
