"""Times an iteration with several seeds in one program, and on several devices.

  python benchmarks/scaling.py --scale=quick --seeds=1,2,4,8 --devices=1,2,4

Seeds: a sweep sharded over all devices, on a CPU one per core; with one seed, a
training run on the same devices. Devices: a training run, in a separate process
for each number of devices. On a CPU the devices are simulated and share the
cores, so with more devices than cores the times show the cost of sharding, not
its gain. If the tasks do not divide over a number of devices, or the devices do
not exist, the reason is reported.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
from absl import flags

from benchmarks import iterations
from benchmarks import options
from benchmarks import reports
from benchmarks import scales
from benchmarks import timing
from mbmpo_jax import backend
from mbmpo_jax import envs
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.training import devices as devices_lib

_SEEDS = flags.DEFINE_list(
  'seeds',
  ['1', '2', '4', '8'],
  'Numbers of seeds to run in one program, separated by commas.',
)
_DEVICES = flags.DEFINE_list(
  'devices',
  ['1', '2', '4', '8'],
  'Numbers of devices to run on, separated by commas.',
)
_ON_DEVICES = flags.DEFINE_integer(
  'on_devices', None,
  'Only measure on this number of devices, in this process, and print the'
  ' result as JSON.',
)  # fmt: skip

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_SIMULATE = '--xla_force_host_platform_device_count'


def run_seeds(
  env_name: str, scale: str, repeats: int, seeds: list[int]
) -> list[dict[str, Any]]:
  """Times each number of seeds, alternating, and prints a line for each."""
  config = scales.make_config(env_name, scale)
  env = envs.make(env_name)
  state = scales.prepare(mbmpo.make(env, config), config)
  available = jax.device_count()
  sizes = [
    devices_lib.largest_divisor(
      config.num_tasks if count == 1 else count, available
    )
    for count in seeds
  ]
  programs = [
    iterations.of_run(env, config, state, size)
    if count == 1
    else iterations.of_sweep(env, config, state, count, size)
    for count, size in zip(seeds, sizes, strict=True)
  ]
  rate = timing.MatmulRate(config.model.precision)
  timings = timing.alternate(programs, rate=rate, repeats=repeats)
  print(timing.HEADER)
  for timed in timings:
    print(timed.row(), flush=True)
  return [
    _row(count, timed) | {'devices': size}
    for count, size, timed in zip(seeds, sizes, timings, strict=True)
  ]


def run_devices(
  env_name: str, scale: str, repeats: int, counts: list[int]
) -> list[dict[str, Any]]:
  """Runs a process for each number of devices, and prints a line for each."""
  rows = []
  for count in counts:
    rows.append(_child(env_name, scale, repeats, count))
    outcome = rows[-1].get('refused') or f'{rows[-1]["median_s"]:.3f} s'
    print(f'{count} devices: {outcome}', flush=True)
  return rows


def measure_devices(
  env_name: str, scale: str, repeats: int, count: int
) -> dict[str, Any]:
  """Times a run that is sharded over the first `count` devices."""
  config = scales.make_config(env_name, scale)
  env = envs.make(env_name)
  devices_lib.make_mesh(config, count)  # raises before anything compiles
  state = scales.prepare(mbmpo.make(env, config), config)
  rate = timing.MatmulRate(config.model.precision)
  program = iterations.of_run(env, config, state, count)
  return _row(count, timing.alternate([program], rate=rate, repeats=repeats)[0])


def _child(
  env_name: str, scale: str, repeats: int, count: int
) -> dict[str, Any]:
  """Returns the measurement of another process, or the reason for its error."""
  command = [
    sys.executable,
    '-m',
    'benchmarks.scaling',
    f'--on_devices={count}',
    f'--env={env_name}',
    f'--scale={scale}',
    f'--repeats={repeats}',
  ]
  kept = os.environ.get('XLA_FLAGS', '').split()
  kept = [flag for flag in kept if not flag.startswith(_SIMULATE)]
  xla_flags = ' '.join([*kept, f'{_SIMULATE}={count}'])
  done = subprocess.run(
    command,
    capture_output=True,
    text=True,
    cwd=_ROOT,
    env=os.environ | {'XLA_FLAGS': xla_flags},
  )
  if done.returncode == 2:  # Bad input; the last line is the reason.
    return {'count': count, 'refused': done.stderr.splitlines()[-1]}
  if done.returncode:
    raise RuntimeError(f'{" ".join(command)} failed:\n{done.stderr}')
  return json.loads(done.stdout.splitlines()[-1])


def _row(count: int, result: timing.Timing) -> dict[str, Any]:
  return {
    'count': count,
    'median_s': result.median_s,
    'seconds': result.seconds,
    'compile_s': result.compile_s,
  }


def run(
  env_name: str,
  scale: str,
  repeats: int,
  seeds: list[int],
  devices: list[int],
) -> dict[str, Any]:
  """Measures and returns the report."""
  # First, while this process uses no device memory.
  over_devices = _relative(run_devices(env_name, scale, repeats, devices))
  config = scales.make_config(env_name, scale)
  over_seeds = _relative(run_seeds(env_name, scale, repeats, seeds))
  return reports.make(
    'scaling',
    env=env_name,
    scale=scale,
    precision=config.model.precision,
    config=dataclasses.asdict(config),
    seeds=over_seeds,
    devices=over_devices,
  )


def _relative(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Adds every time as a multiple of the first one."""
  measured = [row for row in rows if 'median_s' in row]
  for row in measured:
    row['relative'] = row['median_s'] / measured[0]['median_s']
  return rows


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file."""
  del argv
  if _ON_DEVICES.value:
    row = measure_devices(
      options.ENV.value,
      options.SCALE.value,
      options.REPEATS.value,
      _ON_DEVICES.value,
    )
    print(json.dumps(row))
    return
  # Before anything initialises JAX, as building an environment does.
  backend.split_cpu(backend.num_cores())
  report = run(
    options.ENV.value,
    options.SCALE.value,
    options.REPEATS.value,
    [int(count) for count in _SEEDS.value],
    [int(count) for count in _DEVICES.value],
  )
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
