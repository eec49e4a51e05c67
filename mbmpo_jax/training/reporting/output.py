"""Prints to standard output, which may be closed during the run."""

import io
import os
import sys


class _Nowhere(io.TextIOBase):
  """A stream that discards everything."""

  def write(self, text: str) -> int:
    return len(text)


def say(text: str) -> None:
  """Prints a line; after an error, discards all further output."""
  try:
    print(text, flush=True)
  except (OSError, ValueError):  # closed pipe or file, full disk
    give_up()


def give_up() -> None:
  """Discards all further output, including the flush at exit."""
  try:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
  except (OSError, ValueError, AttributeError):
    sys.stdout = _Nowhere()
