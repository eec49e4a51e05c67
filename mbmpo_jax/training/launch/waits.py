"""Announces long waits on stderr."""

import contextlib
import sys
import threading
from collections.abc import Iterator

_LONG_S = 5.0


@contextlib.contextmanager
def announced(what: str, *, after_s: float = _LONG_S) -> Iterator[None]:
  """A context that prints `what` if it takes longer than `after_s` seconds.

  Args:
    what: such as `reading the policy`.
    after_s: seconds.
  """
  timer = threading.Timer(
    after_s, print, [f'{what} ...'], {'file': sys.stderr, 'flush': True}
  )
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()
