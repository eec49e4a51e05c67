r"""The largest possible return in two environments of the public benchmark.

  python experiments/figures/benchmark_optimum.py

Dynamic programming for `pendulum` and `mountain_car`, whose states have two
numbers. The best possible return depends on the initial state; the mean and the
standard deviation are over 10,000 of them. Each environment is computed on two
lattices, the second with half the distance between states and between actions;
the difference of the two means is an estimate of the error. Writes
`optimum.json` and `optimum.txt`. Takes a few minutes.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np

from mbmpo_jax import envs
from mbmpo_jax.theory import optimum
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.launch import benchmark
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import folder_flag

_NUM_ACTIONS, _NUM_STARTS = 11, 10_000


def found(
  world: str, num_refinements: int, horizon: int | None = None
) -> dict[str, Any]:
  """Returns the best return of an environment, and the size of its lattice."""
  env = envs.make(world, benchmark.VARIANT)
  axes, num_actions = optimum.LATTICES[world], _NUM_ACTIONS
  for _ in range(num_refinements):
    axes, num_actions = optimum.finer(axes), 2 * num_actions - 1

  @jax.jit
  def returns(keys: jax.Array) -> jax.Array:
    table = optimum.optimal_values(
      env,
      axes,
      horizon=horizon or env.max_episode_steps,
      num_actions=num_actions,
    )
    starts = jax.vmap(env.initial_state)(keys)
    return optimum.interpolate(table, axes, starts)

  keys = jax.random.split(jax.random.PRNGKey(0), _NUM_STARTS)
  best = np.asarray(returns(keys), np.float64)
  return {
    'environment': world,
    'states': [axis.size for axis in axes],
    'actions': num_actions,
    'return_mean': float(best.mean()),
    'return_std': float(best.std()),
  }


def main(root: pathlib.Path) -> None:
  """Computes the returns, prints them, and writes them."""
  rows: list[dict[str, Any]] = []
  for world in optimum.LATTICES:
    for num_refinements in (0, 1):
      rows.append(found(world, num_refinements))
      print(json.dumps(rows[-1]), flush=True)
  with training_flags.one_line_errors():
    for path in report.write(root, 'optimum', None, (), {'found': rows}):
      print(path)


if __name__ == '__main__':
  folder_flag.run(main, 'runs/figures/benchmark_optimum')
