"""`python` for programs that are only to read their command line.

  python tests/parse_only.py experiments/train.py --config.seed=1

Runs the program with an `app.run` that parses the flags and stops: exit code 0,
or 2 with what is wrong with them. Anything but a program of the repository is
not run at all.
"""

import re
import runpy
import sys

from absl import app
from absl import flags


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
  del sys.argv[0]
  # Examples have no flags.
  if sys.argv and re.match(r'(experiments|benchmarks)/\w+\.py$', sys.argv[0]):
    app.run = _parse
    runpy.run_path(sys.argv[0], run_name='__main__')
