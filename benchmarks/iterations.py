"""Complete iterations for timing, as a training run or a sweep executes them.

Unlike there, the input state is not donated, and there is no evaluation.
"""

import time
from typing import Any

import jax

from benchmarks import timing
from mbmpo_jax import envs
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration
from mbmpo_jax.training import stacked


def of_run(
  env: envs.Environment,
  config: config_lib.Config,
  state: state_lib.State,
  num_devices: int,
) -> timing.Program:
  """An iteration of a training run, sharded over `num_devices` devices."""
  mesh = devices.make_mesh(config, num_devices)
  algorithm = mbmpo.make(env, config, mesh=mesh)
  phases = iteration.phases(algorithm, mesh=mesh)
  return _program(f'1 seed, devices: {num_devices}', phases, state, work=1)


def of_sweep(
  env: envs.Environment,
  config: config_lib.Config,
  state: state_lib.State,
  num_seeds: int,
  num_devices: int,
) -> timing.Program:
  """An iteration of a sweep over seeds, which all have the same data."""
  mesh = devices.make_run_mesh(num_seeds, num_devices)
  phases = iteration.phases(
    mbmpo.make(env, config), mesh=mesh, num_runs=num_seeds
  )
  counters = state.counters
  states = stacked.stack(
    [
      state._replace(counters=counters._replace(key=key))
      for key in jax.random.split(counters.key, num_seeds)
    ],
    mesh,
  )
  name = f'{num_seeds} seeds, devices: {num_devices}'
  return _program(name, phases, states, work=num_seeds)


def _program(
  name: str, phases: dict[str, iteration.Placed], state: Any, *, work: float
) -> timing.Program:
  start = time.perf_counter()
  programs = [
    timing.compiled(phase.function, jax.device_put(state, phase.home))
    for phase in phases.values()
  ]
  compile_s = time.perf_counter() - start

  def iterate(state: Any) -> Any:
    for phase, program in zip(phases.values(), programs, strict=True):
      state, _ = program(jax.device_put(state, phase.home))
    return state

  return timing.Program(
    name, iterate, (state,), compile_s, work, 'iterations', None
  )
