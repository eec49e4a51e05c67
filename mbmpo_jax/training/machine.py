"""Describes the machine and the versions that produce a result."""

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

  Args:
    path: the file; created if it does not exist.
    first: the iteration from which the run continues here.
  """
  lines = path.read_text().splitlines() if path.exists() else []
  if lines:
    try:
      last = json.loads(lines[-1])
    except ValueError:  # It was cut off.
      lines.pop()
    else:
      last.pop(_FIRST, None)
      if last == describe():
        return
  lines.append(json.dumps({_FIRST: first} | describe()))
  atomic.write_text(path, '\n'.join(lines) + '\n')


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
  """Returns the commit of a package, with `-dirty` if its files differ from it.

  Returns `unknown` if the package is not tracked by git, as in a wheel.

  Args:
    package: the package's folder.
  """
  try:
    _git(package, 'ls-files', '--error-unmatch', '__init__.py')
    return _git(package, 'describe', '--always', '--dirty', '--abbrev=12')
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'


def _git(folder: pathlib.Path, *arguments: str) -> str:
  return subprocess.run(
    ['git', '-C', str(folder), *arguments],
    capture_output=True,
    text=True,
    check=True,
  ).stdout.strip()
