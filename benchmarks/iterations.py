"""Whole iterations to be timed, as a training run or a sweep does them."""

import time
from typing import Any

import jax

from benchmarks import timing
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import parallel
from mbmpo_jax.algorithms import mbmpo
from mbmpo_jax.algorithms import state as state_lib
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration
from mbmpo_jax.training import stacked


def of_run(
  env: envs.Environment,
  config: config_lib.Config,
  state: state_lib.TrainState,
  num_devices: int,
) -> timing.Program:
  """That of a training run whose work so many devices share."""
  mesh = devices.make_mesh(config, num_devices)
  algorithm = mbmpo.make(
    env, config, mesh=mesh, fit_on_one=devices.fits_on_one(mesh)
  )
  homes = {name: devices.home(mesh, name) for name in iteration.PHASES}
  phases = {name: getattr(algorithm, name) for name in iteration.PHASES}
  name = f'1 seed, {num_devices} devices'
  return _program(name, phases, homes, state, work=1)


def of_sweep(
  env: envs.Environment,
  config: config_lib.Config,
  state: state_lib.TrainState,
  num_seeds: int,
) -> timing.Program:
  """That of a sweep over seeds, all of which have the same data."""
  algorithm = mbmpo.make(env, config)
  mesh = devices.make_run_mesh(num_seeds)
  keys = jax.random.split(state.key, num_seeds)
  states = stacked.stack([state._replace(key=key) for key in keys], mesh)
  homes = dict.fromkeys(iteration.PHASES, devices.by_run(mesh))
  phases = {
    name: stacked.over_runs(getattr(algorithm, name), mesh)
    for name in iteration.PHASES
  }
  name = f'{num_seeds} seeds, {parallel.size(mesh)} devices'
  return _program(name, phases, homes, states, work=num_seeds)


def _program(
  name: str,
  phases: dict[str, Any],
  homes: dict[str, jax.sharding.Sharding],
  state: Any,
  *,
  work: float,
) -> timing.Program:
  compiled = {}
  start = time.perf_counter()
  for phase, function in phases.items():
    compiled[phase] = timing.compiled(
      function, jax.device_put(state, homes[phase])
    )
  compile_s = time.perf_counter() - start

  def iterate(state: Any) -> Any:
    for phase, program in compiled.items():
      state, _ = program(jax.device_put(state, homes[phase]))
    return state

  return timing.Program(
    name, iterate, (state,), compile_s, work, 'iterations', None
  )
