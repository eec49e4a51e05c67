"""Times each phase of an iteration, separately from its compilation.

  python benchmarks/throughput.py --scale=paper

Measured are collect in environment steps/s, fit in member-sample-epochs/s,
imagine in imagined steps/s, one meta-step, and the whole `update`. The data are
real: the buffer is filled with MJX.

  python benchmarks/throughput.py --env=all

times the steps of every environment and variant instead.
"""

import dataclasses
import statistics
from typing import Any

import jax
from absl import flags

from benchmarks import counts
from benchmarks import flops as counting
from benchmarks import options
from benchmarks import pieces
from benchmarks import reports
from benchmarks import scales
from benchmarks import sharing
from benchmarks import stepping
from benchmarks import timing
from mbmpo_jax import envs
from mbmpo_jax import parallel
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration

_NUM_ENVS = flags.DEFINE_integer(
  'num_envs',
  20,
  'With --env=all: number of environments in parallel.',
  lower_bound=1,
)
_UPDATE_REPEATS = flags.DEFINE_integer(
  'update_repeats', 3, 'Repetitions of the whole update.', lower_bound=1
)


def run(
  env_name: str,
  scale: str,
  repeats: int,
  update_repeats: int,
  num_devices: int | None = None,
) -> dict[str, Any]:
  """Measures every phase and prints a line for each."""
  config = scales.make_config(env_name, scale)
  env = envs.make(env_name)
  mesh = devices.make_mesh(config, num_devices)
  algorithm = mbmpo.make(env, config, mesh=mesh)
  placed = iteration.phases(algorithm, mesh=mesh)
  # Counted without a mesh, which would divide the FLOPs.
  alone = mbmpo.make(env, config, check=False)
  rate = timing.MatmulRate(config.model.precision)

  sizes = config.model_rollouts
  imagined = config.num_tasks * sizes.rollouts_per_task * sizes.horizon
  real = config.collect.steps
  stored = config.collect.buffer_capacity
  train = stored - int(stored * config.model.validation_fraction)
  epochs = config.model.num_models * config.model.max_epochs
  # Without the line search, which is in the count of `meta-step`.
  must = counts.iteration(env, config, epochs=epochs, evaluations=0)

  start = scales.start(alone, config)
  collect_flops = counting.matmul_flops(alone.phases['collect'], start)
  state = jax.device_put(start, devices.replicated(mesh))
  # First, because filling the buffer would compile it without measurement.
  collect = timing.compile_program(
    'collect', placed['collect'].function, state, work=real, unit='env steps',
    flops=collect_flops,
  )  # fmt: skip
  full = scales.prepare(alone, config)
  state = jax.device_put(full, devices.replicated(mesh))
  fit = timing.compile_program(
    'fit', placed['fit'].function,
    jax.device_put(full, placed['fit'].home),
    work=epochs * train, unit='member-sample-epochs',
    flops=must['fit'].flops,
  )  # fmt: skip
  imagine = timing.compile_program(
    'imagine', pieces.make(env, config, mesh=mesh).imagine, state,
    work=imagined,
    unit='imagined steps', flops=must['imagine'].flops,
  )  # fmt: skip
  # All meta-steps of an iteration in one program, which reuses its memory.
  runs = config.meta.num_meta_steps
  improve_flops = counting.matmul_flops(alone.phases['improve'], full)
  meta_step = timing.compile_program(
    'meta-step', placed['improve'].function, state, work=1, unit='meta-steps',
    flops=improve_flops / runs, runs=runs,
  )  # fmt: skip
  update = timing.compile_program(
    'update', algorithm.update, state, work=1, unit='iterations',
    flops=collect_flops + must['fit'].flops + improve_flops,
  )  # fmt: skip

  print(timing.HEADER)
  results: list[timing.Timing] = []
  for programs, times in (
    ((collect, fit, imagine, meta_step), repeats),
    ((update,), update_repeats),
  ):
    timings = timing.alternate(
      programs, rate=rate, repeats=times, at_least_s=scales.at_least_s(scale)
    )
    for timed in timings:
      print(timed.row(), flush=True)
    results += timings

  matmul = statistics.median(rate.history)
  print(f'matmul rate, median: {matmul / 1e9:,.0f} GFLOP/s')
  return reports.make(
    'throughput',
    env=env_name,
    scale=scale,
    precision=config.model.precision,
    config=dataclasses.asdict(config),
    shared_by_devices=parallel.size(mesh),
    matmul_flops_per_s=matmul,
    results=_as_dicts(results),
  )


def run_all(num_envs: int, horizon: int, repeats: int) -> dict[str, Any]:
  """Measures the steps of every environment."""
  results = stepping.run(num_envs, horizon, repeats)
  return reports.make(
    'throughput',
    env='all',
    scale=f'{num_envs}x{horizon}',
    precision='highest',
    results=_as_dicts(results),
  )


def _as_dicts(results: list[timing.Timing]) -> list[dict]:
  return [
    dataclasses.asdict(result) | {'median_s': result.median_s}
    for result in results
  ]


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file."""
  del argv
  env_name, scale = options.ENV.value, options.SCALE.value
  repeats = options.REPEATS.value
  if env_name == 'all':
    horizon = 10 if scale == 'tiny' else 200
    report = run_all(_NUM_ENVS.value, horizon, repeats)
  else:
    sharing.split_cpu()
    report = run(
      env_name, scale, repeats, _UPDATE_REPEATS.value, sharing.NUM_DEVICES.value
    )
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
