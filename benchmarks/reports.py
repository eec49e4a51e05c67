"""Writes results as JSON, with the machine and the versions used."""

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
  """Returns a report: results, machine and versions.

  Args:
    benchmark: its name.
    env: the environment of the measurement.
    scale: the scale of the measurement.
    precision: precision of the matrix products.
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
  """Writes a report to `out`, or to a file in `results/`; prints its path."""
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
  """Returns hardware, versions and commit."""
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


def _commit() -> str:
  """Returns the commit, with a mark if the working tree differs from it."""
  command = ['git', 'describe', '--always', '--dirty', '--abbrev=12']
  try:
    return subprocess.run(
      command, capture_output=True, text=True, check=True
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'
