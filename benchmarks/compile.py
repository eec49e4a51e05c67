"""Measures the compilation of every program, without and with the cache.

  python benchmarks/compile.py --scale=paper

New processes share a cache folder that is empty at first. The first process
starts like a training run and compiles collect, fit and improve; the second
does the same with the cache; then two processes do so for `update`. Tracing,
lowering and compilation of each program are measured separately. The start is
measured from the beginning of the process to the end of the last compilation,
including imports and the initial state.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags

from benchmarks import options

_PROGRAMS = flags.DEFINE_list(
  'programs', None,
  'Only compile these programs, in this process, and print the times as JSON.',
)  # fmt: skip

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_HITS = '/jax/compilation_cache/cache_hits'
_STARTS = {'training': ('collect', 'fit', 'improve'), 'update': ('update',)}


def run(env_name: str, scale: str) -> dict[str, Any]:
  """Runs the processes one after the other, and prints a line per program."""
  from benchmarks import reports
  from benchmarks import scales

  config = scales.make_config(env_name, scale)
  results, starts = [], []
  print(
    f'{"program":<10} {"cache":<6} {"trace s":>9} {"lower s":>9} '
    f'{"compile s":>9} {"total s":>9}'
  )
  with tempfile.TemporaryDirectory() as folder:
    for name, programs in _STARTS.items():
      for cache in ('cold', 'warm'):
        seconds, rows = _child(programs, env_name, scale, folder)
        starts.append({'name': name, 'cache': cache, 'seconds': seconds})
        for row in rows:
          results.append({**row, 'cache': cache})
          print(_line(results[-1]), flush=True)
  for start in starts:
    print(f'start of {start["name"]}, {start["cache"]}: {start["seconds"]:.1f}')
  return reports.make(
    'compile',
    env=env_name,
    scale=scale,
    precision=config.model.precision,
    config=dataclasses.asdict(config),
    results=results,
    starts=starts,
  )


def compile_programs(
  env_name: str, scale: str, programs: list[str]
) -> list[dict[str, Any]]:
  """Traces, lowers and compiles in this process, as a training run does."""
  import jax

  from benchmarks import scales
  from benchmarks import sharing
  from mbmpo_jax import backend
  from mbmpo_jax import envs
  from mbmpo_jax import parallel
  from mbmpo_jax.algorithms import base
  from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
  from mbmpo_jax.training import devices
  from mbmpo_jax.training import iteration
  from mbmpo_jax.training import loop  # noqa: F401, what a run imports
  from mbmpo_jax.training.launch import cache

  hits = 0

  def on_event(event: str, **kwargs: Any) -> None:
    nonlocal hits
    hits += event == _HITS

  cache.enable()
  sharing.split_cpu()
  jax.monitoring.register_event_listener(on_event)
  config = scales.make_config(env_name, scale)
  mesh = devices.make_mesh(config)
  algorithm = mbmpo.make(envs.make(env_name), config, mesh=mesh)
  key = jax.random.PRNGKey(config.seed)
  whole = devices.replicated(mesh)
  saved = iteration.start(algorithm, key, base.hyper(config), whole)
  placed = {
    **iteration.phases(algorithm, mesh=mesh),
    'update': iteration.Placed(algorithm.update, whole),
  }
  rows = []
  for name in programs:
    before = hits
    function, home, _ = placed[name]
    times = [time.perf_counter()]
    phase = jax.jit(
      function,
      donate_argnums=0,
      compiler_options=backend.compiler_options(home),
    )
    traced = phase.trace(jax.device_put(saved.state, home))
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    lowered.compile()
    times.append(time.perf_counter())
    rows.append(
      {
        'name': name,
        'devices': parallel.size(mesh),
        'trace_s': times[1] - times[0],
        'lower_s': times[2] - times[1],
        'compile_s': times[3] - times[2],
        'from_cache': hits > before,
      }
    )
  return rows


def _child(
  programs: tuple[str, ...], env_name: str, scale: str, folder: str
) -> tuple[float, list[dict[str, Any]]]:
  """Returns the seconds until another process has compiled, and its report."""
  command = [
    sys.executable,
    '-m',
    'benchmarks.compile',
    f'--programs={",".join(programs)}',
    f'--env={env_name}',
    f'--scale={scale}',
  ]
  environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': folder}
  start = time.perf_counter()
  with subprocess.Popen(
    command, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=environment
  ) as process:
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.perf_counter() - start
  if process.returncode:
    raise RuntimeError(f'{" ".join(command)} failed')
  return seconds, json.loads(line)


def _line(row: dict[str, Any]) -> str:
  """Formats a line of the printed table."""
  parts = [row['trace_s'], row['lower_s'], row['compile_s']]
  numbers = ' '.join(f'{x:>9.2f}' for x in [*parts, sum(parts)])
  missed = row['cache'] == 'warm' and not row['from_cache']
  note = '  not in the cache: compiled too fast' if missed else ''
  return f'{row["name"]:<10} {row["cache"]:<6} {numbers}{note}'


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file, or runs as a measured process."""
  del argv
  env_name, scale = options.ENV.value, options.SCALE.value
  if _PROGRAMS.value:
    rows = compile_programs(env_name, scale, _PROGRAMS.value)
    print(json.dumps(rows), flush=True)
    return
  from benchmarks import reports

  reports.write(run(env_name, scale), options.OUT.value)


if __name__ == '__main__':
  options.run(main)
