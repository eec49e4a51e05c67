"""Stopping a run between two iterations instead of in the middle of one."""

import os
import signal
import threading
import types
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2


class StopRequest:
  """A context in which SIGTERM and Ctrl-C ask for a stop.

  The first is remembered in `requested`; the second interrupts at once.
  Outside the main thread, where Python has no signals, nothing is installed.

  Attributes:
    requested: the name of the signal that came, or `None`.
  """

  def __init__(self) -> None:
    """Nothing is asked for yet."""
    self.requested: str | None = None
    self._previous: dict[signal.Signals, Any] = {}

  def __enter__(self) -> Self:
    """Installs the handlers."""
    if threading.current_thread() is threading.main_thread():
      for number in _SIGNALS:
        self._previous[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *exception: object) -> None:
    """Puts the former handlers back."""
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _handle(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    if self.requested is not None:
      raise KeyboardInterrupt
    self.requested = signal.Signals(number).name
    # Unlike print, safe wherever the signal strikes.
    message = 'finishing the iteration, then saving; once more stops at once'
    os.write(_STDERR, f'\n{self.requested}: {message}\n'.encode())
