"""Checks that a run fits into memory before anything is compiled.

The memory of every phase and of the evaluation is estimated from their traces
(`footprint.py`) and compared with what the process or its device may use. If
the run does not fit, the error names the field to change and a value that would
fit.
"""

import contextlib
import math
import operator
import os
import pathlib
import resource
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import jax

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors

_GB = 1e9
_EXHAUSTED = 'RESOURCE_EXHAUSTED'
# Weight of the estimate of a program's memory beside its arguments. The
# estimate assumes less fusion than XLA does; values of 0.9 to 2.9 times the
# actual memory were observed. With this weight, a run that is refused certainly
# does not fit.
_SURELY = 0.5
# Fields that do not affect memory, or that nobody would change to save it.
_APART = ('seed', 'env.', 'run.')
_EVALUATION = 'run.eval_episodes'
# Most values tried until one fits.
_TRIES = 6
STATE = 'state'


class OutOfMemoryError(errors.UserError, MemoryError):
  """A run needs more memory than is available."""


class Room(NamedTuple):
  """The available memory in bytes, and the source of this limit."""

  size: int
  said_by: str


class Measured(Protocol):
  """An object with memory estimates, such as `iteration.Iteration`."""

  def footprints(self, only: str | None = None) -> dict[str, int]:
    """Returns bytes by part: `state`, and the extra bytes of each program."""
    ...


_Measured = TypeVar('_Measured', bound=Measured)


def check(
  config: config_lib.Experiment,
  build: Callable[[config_lib.Experiment], _Measured],
  *,
  copies: int = 1,
) -> _Measured:
  """Builds an iteration, and raises an error if it cannot fit into memory.

  Args:
    config: the configuration of the run.
    build: builds the iteration of a configuration without compiling.
    copies: number of devices that hold a full copy in the same memory, as the
      devices of a CPU do.

  Returns:
    The iteration.

  Raises:
    OutOfMemoryError: one line with the field to change, its value, the bytes
      needed and available, and a value that would fit.
  """
  measured = build(config)
  there = room()
  if there is None:
    return measured
  total = _by_part(measured.footprints(), copies)
  part, need = max(total.items(), key=operator.itemgetter(1))
  if need <= there.size:
    return measured

  def needs(other: config_lib.Experiment, only: str | None = part) -> float:
    """Bytes needed by one part or by all; NaN for an invalid configuration."""
    try:
      found = build(other).footprints(only)
    except errors.UserError:
      return math.nan
    return max(_by_part(found, copies).values())

  raise OutOfMemoryError(_refusal(config, part, need, there, needs))


def _by_part(footprints: Mapping[str, int], copies: int) -> dict[str, float]:
  """Returns the bytes needed while each program runs."""
  state = footprints[STATE]
  # Meanwhile a checkpoint may be written from a copy on the host.
  held = copies * state + (state if _on_host() else 0)
  return {
    name: held + copies * _SURELY * size
    for name, size in footprints.items()
    if name != STATE
  } or {STATE: float(held)}


def check_program(name: str, size: int, config: config_lib.Experiment) -> None:
  """Checks the memory of a compiled program, which is then known exactly.

  Args:
    name: the name of the phase.
    size: bytes needed beside its arguments.
    config: the configuration of the run.

  Raises:
    OutOfMemoryError: if less is available.
  """
  there = room()
  if there is not None and size > there.size:
    fields = dict.fromkeys(name for name, *_ in config.sizes()[1:])
    smaller = ''.join(f', {name}' for name in fields)
    raise OutOfMemoryError(
      f'{name}: needs {_gb(size)} more memory, but {_gb(there.size)} are'
      f' available ({there.said_by}); reduce one of collect{smaller}'
    )


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Converts out-of-memory errors during a run to one line.

  Raises:
    OutOfMemoryError: instead of XLA's error.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    if isinstance(error, errors.UserError):
      raise
    said = said_of(error)
    if said is None:
      raise
    raise OutOfMemoryError(said) from error


def said_of(error: BaseException) -> str | None:
  """Returns a line about an out-of-memory error; `None` for other errors."""
  text = str(error)
  if not isinstance(error, MemoryError) and _EXHAUSTED not in text:
    return None
  what = ' '.join(text.split())[:200] or type(error).__name__
  there = room()
  left = f', {_gb(there.size)} are left ({there.said_by})' if there else ''
  return (
    f'out of memory{left}: {what}; saved checkpoints are intact. Make the run'
    ' smaller, or give it more memory'
  )


def room() -> Room | None:
  """Returns the memory that this process may still use; `None` if unknown."""
  found = _of_device() if not _on_host() else _of_process()
  return min(found, default=None, key=lambda room: room.size)


def _on_host() -> bool:
  return jax.local_devices()[0].platform == 'cpu'


def _of_device() -> list[Room]:
  device = jax.local_devices()[0]
  stats = device.memory_stats() or {}
  if 'bytes_limit' not in stats:
    return []
  left = stats['bytes_limit'] - stats.get('bytes_in_use', 0)
  return [Room(left, f'on {device.device_kind}')]


def _of_process() -> list[Room]:
  found = []
  page = resource.getpagesize()
  with contextlib.suppress(OSError, ValueError):
    total, *_, data, _ = map(
      int, pathlib.Path('/proc/self/statm').read_text().split()
    )
    for limit, used, words in (
      (resource.RLIMIT_AS, total, 'address space, ulimit -v'),
      (resource.RLIMIT_DATA, data, 'data, ulimit -d'),
    ):
      most, _ = resource.getrlimit(limit)
      if most != resource.RLIM_INFINITY:
        found.append(Room(max(most - used * page, 0), words))
  found += _of_groups()
  with contextlib.suppress(OSError, ValueError):
    for line in pathlib.Path('/proc/meminfo').read_text().splitlines():
      name, _, value = line.partition(':')
      if name == 'MemAvailable':
        return [*found, Room(int(value.split()[0]) * 1024, 'free on this host')]
  with contextlib.suppress(OSError, ValueError):  # A Mac.
    size = os.sysconf('SC_PHYS_PAGES') * page
    found.append(Room(size, 'memory of this host'))
  return found


def _of_groups() -> list[Room]:
  """Returns the limits of control groups, such as a container's."""
  found = []
  root = pathlib.Path('/sys/fs/cgroup')
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/self/cgroup').read_text().splitlines()
    for line in lines:
      _, kinds, path = line.split(':', 2)
      if kinds and 'memory' not in kinds.split(','):
        continue
      top = root / 'memory' if kinds else root
      names = (
        ('memory.limit_in_bytes', 'memory.usage_in_bytes')
        if kinds
        else ('memory.max', 'memory.current')
      )
      folder = top / path.lstrip('/')
      for group in (folder, *folder.parents):
        if top not in (group, *group.parents):
          break
        with contextlib.suppress(OSError, ValueError):
          found.append(_of_group(group, *names))
  return found


def _of_group(group: pathlib.Path, limit: str, usage: str) -> Room:
  """Returns the limit of one control group; ValueError if there is none."""
  most = int((group / limit).read_text())
  used = int((group / usage).read_text())
  with contextlib.suppress(OSError, ValueError):
    for line in (group / 'memory.stat').read_text().splitlines():
      name, _, value = line.partition(' ')
      if name == 'inactive_file':  # Freed when memory is needed.
        used -= int(value)
        break
  return Room(max(most - used, 0), "the control group's limit")


def _refusal(
  config: config_lib.Experiment,
  part: str,
  need: float,
  there: Room,
  needs: Callable[..., float],
) -> str:
  """Returns the line that names what to change."""
  field, half = _to_change(config, need, there, needs)
  said = (
    f'needs about {_gb(need)} of memory while {part} runs, but'
    f' {_gb(there.size)} are available ({there.said_by})'
  )
  if field is None:
    return f'the run {said}'
  value = operator.attrgetter(field)(config)
  fits = _that_fits(config, field, need, half, there, needs)
  out = 'no other value of this field alone would fit'
  if fits is not None:
    out = f'{field}={fits!r} would fit'
  return f'{field}={value!r}: the run {said}; {out}'


def _to_change(
  config: config_lib.Experiment,
  need: float,
  there: Room,
  needs: Callable[..., float],
) -> tuple[str | None, float]:
  """Returns the field that needs most memory, and the need with half of it."""
  now = config_lib.flatten(config)
  default = config_lib.flatten(type(config)())
  found: tuple[str | None, float] = (None, need)
  fields = [
    name
    for name, hint, _ in config_lib.leaves(type(config))
    if _size(now[name]) > 1
    and _counts(hint)
    and (name == _EVALUATION or not name.startswith(_APART))
  ]
  # Try first the field that exceeds its default most.
  fields.sort(key=lambda n: -_size(now[n]) / max(_size(default[n]), 1))
  for field in fields:
    half = needs(_with(config, field, 0.5))
    if half < found[1]:
      found = field, half
    if half < 0.75 * need:
      break
  return found


def _that_fits(
  config: config_lib.Experiment,
  field: str,
  need: float,
  half: float,
  there: Room,
  needs: Callable[..., float],
) -> Any:
  """Returns a value of a field with which everything fits, or `None`."""
  rest = max(2 * half - need, 0.0)  # Bytes that do not depend on the field.
  share = 0.9 * (there.size - rest) / (need - rest)
  for _ in range(_TRIES):
    if share <= 0:
      return None
    other = _with(config, field, share)
    # Check the part at fault first; the others take longer.
    if all(needs(other, *only) <= there.size for only in ((), (None,))):
      return operator.attrgetter(field)(other)
    share /= 3
  return None


def _with(
  config: config_lib.Experiment, field: str, share: float
) -> config_lib.Experiment:
  value = operator.attrgetter(field)(config)
  return config_lib.replaced(
    config,
    {
      field: tuple(_rounded(item * share) for item in value)
      if isinstance(value, tuple)
      else _rounded(value * share)
    },
  )


def _rounded(value: float) -> int:
  """Rounds down to two digits."""
  if value < 100:
    return max(int(value), 1)
  unit = 10 ** (int(math.log10(value)) - 1)
  return int(value // unit) * unit


def _size(value: Any) -> float:
  if isinstance(value, tuple):
    return max((_size(item) for item in value), default=0)
  return 0 if isinstance(value, (bool, str, float)) or value is None else value


def _counts(hint: Any) -> bool:
  """Whether a field of this type is a count, or a tuple of counts."""
  return hint is int or int in typing.get_args(hint)


def _gb(size: float) -> str:
  """Formats bytes in gigabytes of 10^9 bytes."""
  return f'{size / _GB:.3g} GB'
