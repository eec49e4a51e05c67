"""`mbmpo <command>`: the programs of `experiments/`, installed as one command.

mbmpo train mbmpo/point --workdir=runs/point mbmpo evaluate runs/point
"""

import ast
import pathlib
import runpy
import sys

from mbmpo_jax import validation

_PACKAGE = 'mbmpo_jax.training.commands'
_FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'commands'


def names() -> tuple[str, ...]:
  """The commands, sorted."""
  return tuple(
    sorted(path.stem for path in _FOLDER.glob('*.py') if path.stem[0].isalpha())
  )


def main() -> None:
  """Runs the command named by the first argument as the main program.

  Each command has its own flags. An unknown command prints one line and exits
  with 2.
  """
  command, *rest = sys.argv[1:] or ['--help']
  if command in ('--help', '-h', '-help', 'help'):
    print(_usage())
    return
  if command not in names():
    print(
      f'error: {command[:100]}: no such command'
      f'{validation.nearest(command, names())}; must be one of'
      f' {", ".join(names())}',
      file=sys.stderr,
    )
    sys.exit(2)
  sys.argv = [f'mbmpo {command}', *rest]
  # Run as the main module, so that --help shows its docstring and its flags.
  runpy.run_module(f'{_PACKAGE}.{command}', run_name='__main__', alter_sys=True)


def _usage() -> str:
  width = max(map(len, names()))
  lines = [f'  {name:<{width}}  {_sentence(name)}' for name in names()]
  return '\n'.join(
    [
      'mbmpo <command> [--flag=value ...]',
      '',
      *lines,
      '',
      'mbmpo <command> --help says more.',
    ]
  )


def _sentence(name: str) -> str:
  """Returns the first line of the program's docstring without running it."""
  text = (_FOLDER / f'{name}.py').read_text(encoding='utf-8')
  return (ast.get_docstring(ast.parse(text)) or '').partition('\n')[0]
