"""Compares what an iteration must compute, what it computes, and its time.

  python benchmarks/roofline.py --scale=paper

For every phase, for all phases together and for every piece of a meta-step, it
reports the minimal FLOPs (`counts.py`) and the FLOPs of the program
(`flops.py`), the minimal bytes and the bytes of the program's matrix products,
the time, and the fraction of the machine's matrix-product rate, measured in the
same run, that corresponds to the minimal FLOPs. It also reports the memory of
every program, and that of the process after one iteration.
"""

import dataclasses
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks import counts
from benchmarks import flops as counting
from benchmarks import options
from benchmarks import pieces as pieces_lib
from benchmarks import reports
from benchmarks import scales
from benchmarks import sharing
from benchmarks import timing
from mbmpo_jax import backend
from mbmpo_jax import envs
from mbmpo_jax import parallel
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration

_HEADER = (
  f'{"measured":<22} {"times":>5} {"must GFLOP":>11} {"does GFLOP":>11} '
  f'{"ratio":>6} {"must MB":>9} {"does MB":>9} {"median s":>9} '
  f'{"of matmul":>9}'
)


@dataclasses.dataclass
class Row:
  """One phase, all phases of an iteration, or one piece of a meta-step.

  Attributes:
    name: its name.
    times: how often it runs: a phase per iteration, a piece per meta-step. The
      other numbers are for one run.
    must: the minimal FLOPs and bytes.
    does: FLOPs and bytes of its program, from `flops.matmul_count`.
    timing: its time; the fractions refer to the minimal FLOPs.
  """

  name: str
  times: float
  must: counts.Count
  does: counts.Count
  timing: timing.Timing

  @property
  def ratio(self) -> float:
    """The program's FLOPs divided by the minimal FLOPs."""
    return self.does.flops / self.must.flops

  def as_dict(self) -> dict[str, Any]:
    """The row for JSON."""
    return {
      'name': self.name,
      'times': self.times,
      'must_flops': self.must.flops,
      'does_flops': self.does.flops,
      'ratio': self.ratio,
      'must_bytes': self.must.bytes,
      'does_bytes': self.does.bytes,
      'median_s': self.timing.median_s,
      'seconds': self.timing.seconds,
      'fractions': self.timing.fractions,
    }

  def row(self) -> str:
    """A line of the printed table."""
    fraction = statistics.median(self.timing.fractions or [float('nan')])
    return (
      f'{self.name:<22} {self.times:>5.3g} {self.must.flops / 1e9:>11.4g} '
      f'{self.does.flops / 1e9:>11.4g} {self.ratio:>6.2f} '
      f'{self.must.bytes / 1e6:>9.4g} {self.does.bytes / 1e6:>9.4g} '
      f'{self.timing.median_s:>9.4f} '
      f'{fraction:>9.1%}'
    )


def run(
  env_name: str, scale: str, repeats: int, num_devices: int | None = None
) -> dict[str, Any]:
  """Counts and measures everything, and prints a line for each row."""
  config = scales.make_config(env_name, scale)
  env = envs.make(env_name)
  mesh = devices.make_mesh(config, num_devices)
  algorithm = mbmpo.make(env, config, mesh=mesh)
  state = scales.start(algorithm, config)
  placed = iteration.phases(algorithm, mesh=mesh)

  # One iteration as in a training run, before anything else uses memory.
  compiled = {
    name: _compile_donating(phase.function, jax.device_put(state, phase.home))
    for name, phase in placed.items()
  }
  state = jax.device_put(state, devices.replicated(mesh))
  state = scales.fill(compiled['collect'], state, config)
  full = jax.device_put(state, placed['fit'].home)
  state, fitted = compiled['fit'](full)
  state = jax.device_put(state, devices.replicated(mesh))
  state, _ = jax.block_until_ready(compiled['improve'](state))
  peak_rss, peak_device = _peak_rss(), _peak_device()
  compiled['update'] = _compile_donating(algorithm.update, state)
  memory = {name: _memory(program) for name, program in compiled.items()}

  functions = _functions(env, config, mesh)
  pieces = pieces_lib.make(env, config, mesh=mesh)

  def once(fn: Callable[..., Any], *args: Any) -> Any:
    """Compiles as for the timing, which then uses the cache; one at a time."""
    return jax.block_until_ready(timing.compiled(fn, *args)(*args))

  sampled = once(pieces.sample, state)
  gradient = once(functions['surrogate gradient'], state, sampled)
  _, metrics = once(functions['meta-step'], state)
  evaluations = float(metrics['meta/backtracks']) + 1
  must = counts.iteration(
    env,
    config,
    epochs=float(fitted['model/epochs']) * config.model.num_models,
    evaluations=evaluations,
  )

  measured: list[tuple[float, timing.Program]] = []

  def add(name: str, times: float, *args: Any, runs: int = 1) -> None:
    program = timing.compile_program(
      name,
      functions[name],
      *args,
      work=1,
      unit='runs',
      flops=must[name].flops,
      runs=runs,
    )
    measured.append((times, program))

  add('collect', 1, state)
  add('fit', 1, jax.device_put(state, placed['fit'].home))
  # All meta-steps of an iteration in one program, which reuses its memory.
  meta_steps = config.meta.num_meta_steps
  add('meta-step', meta_steps, state, runs=meta_steps)
  add('imagine', 2, state)
  add('advantages', 2, state, sampled.pre.trajectory)
  add('inner gradient', 1, state, sampled)
  add('surrogate gradient', 1, state, sampled)
  add('curvature products', 1, state, sampled, gradient)
  add('evaluation', evaluations, state, sampled, state.policy)

  rate = timing.MatmulRate(config.model.precision)
  timings = timing.alternate(
    [program for _, program in measured],
    rate=rate,
    repeats=repeats,
    at_least_s=scales.at_least_s(scale),
  )
  # A program's FLOPs are counted without a mesh, which would divide them.
  alone = _functions(env, config, None)
  rows = [
    Row(
      program.name,
      times,
      must[program.name],
      (1 / program.runs)
      * counting.matmul_count(
        alone[program.name],
        *jax.device_put(program.args, devices.replicated(None)),
      ),
      timed,
    )
    for (times, program), timed in zip(measured, timings, strict=True)
  ]
  rows.insert(3, _iteration(rows[:3]))
  print(_HEADER)
  for row in rows:
    if row.name == 'imagine':
      print('pieces of a meta-step:')
    print(row.row())
  seconds = {row.name: row.timing.seconds for row in rows}
  phases = statistics.median(
    step / phase
    for step, phase in zip(
      seconds['meta-step'], seconds['imagine'], strict=True
    )
  )
  print(f'a meta-step takes as long as {phases:.2f} phases of imagination')
  print(
    'collect must do more: its physics is only in what it does;\n'
    'a program may do less: equal products are merged when it is compiled'
  )
  matmul = statistics.median(rate.history)
  print(f'matmul rate, median: {matmul / 1e9:,.0f} GFLOP/s')
  for name, sizes in memory.items():
    print(f'memory of {name}: {sizes["total"] / 2**20:,.0f} MiB')
  print(f'peak of the process in one iteration: {peak_rss / 2**20:,.0f} MiB')
  return reports.make(
    'roofline',
    env=env_name,
    scale=scale,
    precision=config.model.precision,
    config=dataclasses.asdict(config),
    shared_by_devices=parallel.size(mesh),
    matmul_flops_per_s=matmul,
    results=[row.as_dict() for row in rows],
    meta_step_in_imagine_phases=phases,
    must={name: dataclasses.asdict(count) for name, count in must.items()},
    memory=memory,
    peak_rss_bytes=peak_rss,
    peak_device_bytes=peak_device,
  )


def _iteration(phases: Sequence[Row]) -> Row:
  """Returns a row for all phases of an iteration, one after the other."""
  must, does = counts.Count(0, 0), counts.Count(0, 0)
  for phase in phases:
    must += phase.times * phase.must
    does += phase.times * phase.does

  def totals(values: Sequence[Sequence[float]]) -> list[float]:
    """Returns the sum over phases for every repetition."""
    return [
      sum(p.times * value for p, value in zip(phases, of_all, strict=True))
      for of_all in zip(*values, strict=True)
    ]

  # FLOPs that pure matrix products could have done in each phase's time.
  possible = totals(
    [
      [phase.must.flops / fraction for fraction in phase.timing.fractions or []]
      for phase in phases
    ]
  )
  return Row(
    'iteration',
    1,
    must,
    does,
    timing.Timing(
      'iteration',
      sum(phase.timing.compile_s for phase in phases),
      totals([phase.timing.seconds for phase in phases]),
      1,
      'runs',
      must.flops,
      [must.flops / flops for flops in possible],
    ),
  )


def _functions(
  env: envs.Environment,
  config: config_lib.Config,
  mesh: jax.sharding.Mesh | None,
) -> dict[str, Callable[..., Any]]:
  """Returns the measured functions, by the names in `counts.iteration`."""
  algorithm = mbmpo.make(env, config, mesh=mesh, check=False)
  placed = iteration.phases(algorithm, mesh=mesh)
  pieces = pieces_lib.make(env, config, mesh=mesh)
  return {
    'collect': placed['collect'].function,
    'fit': placed['fit'].function,
    'meta-step': placed['improve'].function,
    'imagine': pieces.imagine,
    'advantages': pieces.advantages,
    'inner gradient': pieces.inner_gradient,
    'surrogate gradient': pieces.surrogate_gradient,
    'curvature products': pieces.natural_gradient,
    'evaluation': pieces.evaluation,
  }


def _compile_donating(fn: Callable[..., Any], state: state_lib.State) -> Any:
  """Compiles a phase as in a training run."""
  jitted = jax.jit(
    fn,
    donate_argnums=0,
    compiler_options=backend.compiler_options(state.counters.key.sharding),
  )
  return jitted.lower(state).compile()


def _memory(compiled: Any) -> dict[str, int]:
  """Returns the bytes that a program uses while it runs."""
  sizes = compiled.memory_analysis()
  parts = {
    'arguments': sizes.argument_size_in_bytes,
    'results': sizes.output_size_in_bytes,
    'temporary': sizes.temp_size_in_bytes,
    'shared': sizes.alias_size_in_bytes,
  }
  total = sum(parts.values()) - 2 * parts['shared']
  return {**parts, 'total': total}


def _peak_rss() -> int:
  """Returns the peak memory of this process in bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else 1024 * peak


def _peak_device() -> int | None:
  """Returns the peak memory of the device; `None` if it is the host's."""
  return (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use')


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file."""
  del argv
  sharing.split_cpu()
  report = run(
    options.ENV.value,
    options.SCALE.value,
    options.REPEATS.value,
    sharing.NUM_DEVICES.value,
  )
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
