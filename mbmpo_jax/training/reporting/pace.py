"""Estimates the time left, and formats numbers for people."""

import collections
import math
import statistics
import time
from collections.abc import Callable, Mapping

# Iterations get slower as the buffer grows, so use recent ones only.
_RECENT = 10


class Pace:
  """Estimates the time left from the median of recent iterations.

  It uses the wall clock, so the time between iterations counts. Compilation
  does not count, because it happens once.
  """

  def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
    """Starts without measurements.

    Args:
      clock: returns seconds from any origin.
    """
    self._clock = clock
    self._seconds: collections.deque[float] = collections.deque(maxlen=_RECENT)
    self._since = clock()
    self._to_do = 0

  def start(self, *, total: int, done: int) -> None:
    """Starts a run with `total` iterations, of which `done` are done."""
    self._since = self._clock()
    self._to_do = total - done

  def iteration(self, metrics: Mapping[str, float]) -> None:
    """Records the end of an iteration."""
    now = self._clock()
    compiling = metrics.get('time/compile_s', 0.0)
    self._seconds.append(max(0.0, now - self._since - compiling))
    self._since = now
    self._to_do -= 1

  def left(self) -> float:
    """Returns the seconds left; NaN before the first iteration has ended."""
    if not self._seconds:
      return math.nan
    usual = statistics.median(self._seconds)
    running = min(self._clock() - self._since, usual) if self._to_do else 0.0
    return self._to_do * usual - running


def duration(seconds: float) -> str:
  """Formats with two units at most: `0.3 s`, `7 min 40 s`, `26 h 5 min`."""
  if not math.isfinite(seconds):
    return '?'
  if seconds < 9.95:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours} h {minutes} min'
  return f'{minutes} min {rest} s' if minutes else f'{rest} s'


def count(number: float) -> str:
  """Formats with three digits: `87`, `1.23k`, `98.5k`, `1.2M`."""
  for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
    if abs(number) >= 0.9995 * size:
      return f'{number / size:.3g}{unit}'
  return f'{number:.3g}'
