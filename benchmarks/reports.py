"""Writes results as JSON, with the machine and the versions used."""

import json
import pathlib
from typing import Any

from mbmpo_jax.training import machine

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
    'environment': machine.describe(),
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
