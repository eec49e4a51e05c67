"""Stops a run between two iterations when a signal arrives."""

import contextlib
import os
import signal
import socket
import sys
import threading
import types
from collections.abc import Iterator
from typing import Self

# Exit code of a binary that was stopped before its run was done: EX_TEMPFAIL of
# sysexits.h, "the same command again may succeed".
STOPPED = 75
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2


class StopRequest:
  """A context in which SIGTERM and Ctrl-C request a stop.

  The first signal sets `requested` and immediately prints a line to stderr.
  Python runs signal handlers only when the main thread returns from XLA, which
  may take minutes, so a separate thread receives the signal. A second signal
  raises KeyboardInterrupt in the main thread once it has returned from XLA.
  With `exit_at_once`, a second signal instead ends the process immediately with
  exit code 128 + the signal's number; the current computation and an incomplete
  checkpoint are lost.

  Outside the main thread, where Python has no signal handlers, nothing is
  installed.

  Attributes:
    requested: the name of the received signal, or `None`. Other code may set it
      to request a stop.
    obeyed: whether a run ended early because of the request.
  """

  def __init__(self, *, exit_at_once: bool = False) -> None:
    """Initialises without a request.

    Args:
      exit_at_once: whether a second signal ends the process; only for a process
        that does nothing but training.
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
      # These are undone in reverse order: closing the writer ends the watcher.
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
    """Restores the previous handlers."""
    self._restore.close()

  def _watch(self, reader: socket.socket) -> None:
    """Receives the number of every signal, in a separate thread."""
    while received := reader.recv(1):
      if received[0] in _SIGNALS:
        self._notice(signal.Signals(received[0]))

  def _notice(self, number: signal.Signals) -> None:
    self._noticed += 1
    if self._noticed == 1:
      self.requested = number.name
      message = (
        'finishing the iteration, then saving; a second signal stops at once'
      )
    elif self._exit_at_once:
      message = 'stopping at once; the last checkpoint is kept'
    else:
      return
    # os.write bypasses buffers and locks of the display.
    os.write(_STDERR, f'\n{number.name}: {message}\n'.encode())
    if self._noticed > 1:
      os._exit(128 + number)

  def _handle(self, number: int, frame: types.FrameType | None) -> None:
    """Runs in the main thread; once for all signals that came during XLA."""
    del frame
    self.requested = self.requested or signal.Signals(number).name
    self._handled += 1
    if max(self._handled, self._noticed) > 1 and not self._exit_at_once:
      raise KeyboardInterrupt


@contextlib.contextmanager
def exiting() -> Iterator[StopRequest]:
  """A context for binaries: exits with `STOPPED` if a run was ended early.

  A second signal ends the process immediately.
  """
  with StopRequest(exit_at_once=True) as stop:
    yield stop
  if stop.obeyed:
    sys.exit(STOPPED)
