"""Standard output, which may be closed while a program goes on."""

import io
import os
import sys


class _Nowhere(io.TextIOBase):
  """Takes everything, keeps nothing."""

  def write(self, text: str) -> int:
    return len(text)


def say(text: str) -> None:
  """Prints a line; where nobody reads any more, nothing from here on."""
  try:
    print(text, flush=True)
  except (OSError, ValueError):  # A closed pipe, a full disk, a closed file.
    give_up()


def give_up() -> None:
  """Sends what is printed later nowhere, the last flush at exit included."""
  try:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
  except (OSError, ValueError, AttributeError):
    sys.stdout = _Nowhere()
