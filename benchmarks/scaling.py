"""Times the whole update for more seeds in one program.

  python benchmarks/scaling.py --scale=quick --seeds=1,2,4,8

Seeds: `jax.vmap` of `update` over states, on one device.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import options
from benchmarks import reports
from benchmarks import scales
from benchmarks import timing
from mbmpo_jax import envs
from mbmpo_jax.algorithms import mbmpo
from mbmpo_jax.algorithms import state as state_lib

_SEEDS = flags.DEFINE_list(
  'seeds', ['1', '2', '4', '8'], 'Numbers of seeds to run at once.'
)


def run_seeds(
  env_name: str, scale: str, repeats: int, seeds: list[int]
) -> list[dict[str, Any]]:
  """Times `update` over each number of seeds, and prints a line for each."""
  config = scales.make_config(env_name, scale)
  algorithm = mbmpo.make(envs.make(env_name), config)
  state = scales.prepare(algorithm, config)
  rate = timing.MatmulRate(config.model.precision)
  rows: list[dict[str, Any]] = []
  print(timing.HEADER)
  for count in seeds:
    result = timing.measure(
      f'{count} seeds', jax.vmap(algorithm.update), _seeds(state, count),
      rate=rate, repeats=repeats, work=count, unit='iterations',
    )  # fmt: skip
    print(result.row(), flush=True)
    rows.append(_row(count, result))
  return rows


def _seeds(state: state_lib.TrainState, count: int) -> state_lib.TrainState:
  """The state `count` times, each with its own key and the same data."""
  states = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), state)
  return states._replace(key=jax.random.split(state.key, count))


def _row(count: int, result: timing.Timing) -> dict[str, Any]:
  return {
    'count': count,
    'median_s': result.median_s,
    'seconds': result.seconds,
    'compile_s': result.compile_s,
  }


def run(
  env_name: str, scale: str, repeats: int, seeds: list[int]
) -> dict[str, Any]:
  """Measures and reports."""
  config = scales.make_config(env_name, scale)
  over_seeds = _relative(run_seeds(env_name, scale, repeats, seeds))
  return reports.make(
    'scaling',
    env=env_name,
    scale=scale,
    precision=config.model.precision,
    config=dataclasses.asdict(config),
    seeds=over_seeds,
  )


def _relative(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Adds and prints every time as a multiple of the first."""
  for row in rows:
    row['relative'] = row['median_s'] / rows[0]['median_s']
  return rows


def main(argv: list[str]) -> None:
  """Measures and writes the JSON."""
  del argv
  report = run(
    options.ENV.value,
    options.SCALE.value,
    options.REPEATS.value,
    [int(count) for count in _SEEDS.value],
  )
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
