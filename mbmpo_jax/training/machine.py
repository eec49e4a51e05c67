"""Describes the machine and the versions that produce a result."""

import contextlib
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax
import jaxlib

import mbmpo_jax
from mbmpo_jax.training.storage import atomic

_PACKAGE = pathlib.Path(mbmpo_jax.__file__).resolve().parent
# The key, in a record, of the iteration from which its machine continued.
_FIRST = 'iteration'


@functools.cache
def describe() -> dict[str, Any]:
  """Returns hardware, versions, and the commit of this package."""
  device = jax.devices()[0]
  return {
    'device': device.device_kind,
    'platform': device.platform,
    'num_devices': jax.device_count(),
    'cpu': cpu_name(),
    'cpu_cores': os.cpu_count(),
    'python': platform.python_version(),
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
    'mujoco_mjx': importlib.metadata.version('mujoco-mjx'),
    'commit': commit(),
  }


def record(path: pathlib.Path, first: int) -> None:
  """Appends the machine to a file of JSON lines, unless it is the last entry.

  Entries of iterations from `first` on are dropped, because these iterations
  are done again. So are damaged entries.

  Args:
    path: the file; created if it does not exist.
    first: the iteration from which the run continues here.
  """
  entries = [x for x in _entries(path) if x[_FIRST] < first]
  if not entries or entries[-1] | {_FIRST: first} != _now(first):
    entries.append(_now(first))
  lines = [json.dumps(entry) + '\n' for entry in entries]
  atomic.write_text(path, ''.join(lines))


def _now(first: int) -> dict[str, Any]:
  return {_FIRST: first} | describe()


def _entries(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads a record without its damaged lines."""
  if not path.exists():
    return []
  found = []
  for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
    with contextlib.suppress(ValueError):
      found.append(json.loads(line))
  return [
    entry
    for entry in found
    if isinstance(entry, dict) and isinstance(entry.get(_FIRST), int)
  ]


def cpu_name(path: str = '/proc/cpuinfo') -> str:
  """Returns the processor's name, family and model.

  One name may stand for several families and models.

  Args:
    path: the system's list of processors. Without that list, or without these
      fields in it, Python's name of the processor is returned.
  """
  try:
    with open(path, encoding='utf-8') as file:
      first = file.read().split('\n\n')[0]
    lines = (line.partition(':') for line in first.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    return (
      f'{fields["model name"]}, family {fields["cpu family"]},'
      f' model {fields["model"]}'
    )
  except (OSError, KeyError):
    return platform.processor()


def commit(package: pathlib.Path = _PACKAGE) -> str:
  """Returns the commit of a package, with `-dirty` if the package differs.

  Returns `unknown` if the package is not tracked by git, as in a wheel.

  Args:
    package: the package's folder.
  """
  try:
    _git(package, 'ls-files', '--error-unmatch', '__init__.py')
    made = _git(package, 'rev-parse', '--short=12', 'HEAD')
    return made + ('-dirty' if _git(package, 'status', '-s', '.') else '')
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'


def _git(folder: pathlib.Path, *arguments: str) -> str:
  return subprocess.run(
    ['git', '-C', str(folder), *arguments],
    capture_output=True,
    text=True,
    check=True,
  ).stdout.strip()
