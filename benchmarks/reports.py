"""Results as JSON, with what a number means nothing without."""

import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax
import jaxlib

_RESULTS = pathlib.Path(__file__).parent / 'results'


def make(
  benchmark: str, *, env: str, scale: str, precision: str, **body: Any
) -> dict[str, Any]:
  """What was measured, on which machine, by which versions, and the results.

  Args:
    benchmark: its name.
    env: the environment measured in.
    scale: of what was measured.
    precision: of the matrix products.
    **body: the results.
  """
  return {
    'benchmark': benchmark,
    'env': env,
    'scale': scale,
    'precision': precision,
    'environment': environment(),
    **body,
  }


def write(report: dict[str, Any], out: str) -> pathlib.Path:
  """Writes a report to `out`, or else to a file in `results/`, and says so."""
  parts = (
    report['benchmark'],
    report['environment']['platform'],
    report['env'],
    report['scale'],
  )
  path = pathlib.Path(out) if out else _RESULTS / f'{"_".join(parts)}.json'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
  print(f'written to {path}')
  return path


def environment() -> dict[str, Any]:
  """Hardware, versions and commit."""
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
    'commit': _commit(),
  }


def cpu_name(path: str = '/proc/cpuinfo') -> str:
  """The processor's name, family and model: one name may cover many of them.

  Args:
    path: where the system lists its processors. Without that list, or such
      fields in it, the name that Python gives.
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


def _commit() -> str:
  """The commit, marked where the tree differs from it."""
  command = ['git', 'describe', '--always', '--dirty', '--abbrev=12']
  try:
    return subprocess.run(
      command, capture_output=True, text=True, check=True
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'
