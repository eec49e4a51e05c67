"""Stopping a run between two iterations instead of in the middle of one."""

import contextlib
import os
import signal
import socket
import sys
import threading
import types
from collections.abc import Iterator
from typing import Self

# What a binary exits with when it was stopped before it was done: EX_TEMPFAIL
# of sysexits.h, "the same command again may succeed".
STOPPED = 75
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2


class StopRequest:
  """A context in which SIGTERM and Ctrl-C ask for a stop.

  The first signal is remembered in `requested`, and answered with a line on
  stderr at once. Python's own handlers wait until the main thread is back from
  XLA, minutes perhaps, so a thread is told instead. The second signal raises
  KeyboardInterrupt in the main thread once that is back, or, with
  `exit_at_once`, ends the process there and then with 128 + the signal's
  number: what XLA is doing is dropped, and so is a checkpoint half written.

  Outside the main thread, where Python has no signals, nothing is installed.

  Attributes:
    requested: the name of the signal that came, or `None`; may be set by
      whoever wants a stop for other reasons.
    obeyed: whether a run was ended before it was done.
  """

  def __init__(self, *, exit_at_once: bool = False) -> None:
    """Nothing is asked for yet.

    Args:
      exit_at_once: what a second signal does; not for a process that has more
        to do than to train.
    """
    self.requested: str | None = None
    self.obeyed = False
    self._exit_at_once = exit_at_once
    self._noticed = self._handled = 0
    self._restore = contextlib.ExitStack()

  def __enter__(self) -> Self:
    """Installs the handlers."""
    if threading.current_thread() is threading.main_thread():
      reader, writer = socket.socketpair()
      writer.setblocking(False)
      watcher = threading.Thread(
        target=self._watch, args=(reader,), name='signals', daemon=True
      )
      # In the opposite order when undone: the watcher ends once the writer is
      # closed.
      self._restore.enter_context(reader)
      self._restore.callback(watcher.join)
      self._restore.enter_context(writer)
      watcher.start()
      previous = signal.set_wakeup_fd(writer.fileno())
      self._restore.callback(signal.set_wakeup_fd, previous)
      for number in _SIGNALS:
        handler = signal.signal(number, self._handle)
        self._restore.callback(signal.signal, number, handler)
    return self

  def __exit__(self, *exception: object) -> None:
    """Puts the former handlers back."""
    self._restore.close()

  def _watch(self, reader: socket.socket) -> None:
    """Is told every signal's number, whatever the main thread is doing."""
    while received := reader.recv(1):
      if received[0] in _SIGNALS:
        self._notice(signal.Signals(received[0]))

  def _notice(self, number: signal.Signals) -> None:
    self._noticed += 1
    if self._noticed == 1:
      self.requested = number.name
      message = 'finishing the iteration, then saving; once more stops at once'
    elif self._exit_at_once:
      message = 'stopping at once; the last save stays'
    else:
      return
    # Past whatever a display has buffered or locked.
    os.write(_STDERR, f'\n{number.name}: {message}\n'.encode())
    if self._noticed > 1:
      os._exit(128 + number)

  def _handle(self, number: int, frame: types.FrameType | None) -> None:
    """Runs in the main thread; signals that came during XLA, only once."""
    del frame
    self.requested = self.requested or signal.Signals(number).name
    self._handled += 1
    if max(self._handled, self._noticed) > 1 and not self._exit_at_once:
      raise KeyboardInterrupt


@contextlib.contextmanager
def exiting() -> Iterator[StopRequest]:
  """For a binary: exits with `STOPPED` if a run was ended before it was done.

  A second signal ends the process at once.
  """
  with StopRequest(exit_at_once=True) as stop:
    yield stop
  if stop.obeyed:
    sys.exit(STOPPED)
