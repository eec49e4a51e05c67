"""Programs that take nothing but a folder to write to."""

import pathlib
from collections.abc import Callable, Sequence

from absl import app
from absl import flags

from mbmpo_jax.training.launch import flags as training_flags

# The flag belongs to the binary that parses it, so its --help shows it.
flags.disclaim_key_flags()


def run(main: Callable[[pathlib.Path], None], default: str) -> None:
  """Parses `--workdir` and calls `main` with it; bad input is one line.

  Args:
    main: writes to the folder.
    default: the folder if the flag is not given.
  """
  folder = flags.DEFINE_string(
    'workdir', default, 'Folder to which the results are written.'
  )

  def parse(argv: Sequence[str]) -> pathlib.Path:
    with training_flags.one_line_errors():
      training_flags.parse_defined(argv, ['workdir'], required=['workdir'])
    return pathlib.Path(folder.value)

  app.run(main, flags_parser=parse)
