"""Imports without the lines that say nothing to the person at the terminal."""

import contextlib
import io
from collections.abc import Iterator

# MuJoCo's JAX engine prints these where its other engine is not installed.
_NOISE = ('Failed to import warp:', 'Failed to import mujoco_warp:')


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
  """Drops known noise from standard output, and passes on everything else."""
  printed = io.StringIO()
  try:
    with contextlib.redirect_stdout(printed):
      yield
  finally:
    for line in printed.getvalue().splitlines():
      if not line.startswith(_NOISE):
        print(line)
