"""Several runs as one: states stacked on a leading axis [S], one program."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import parallel
from mbmpo_jax.training import devices


def stack(trees: Sequence[Any], mesh: jax.sharding.Mesh | None = None) -> Any:
  """The trees of S runs as one, on the devices of `over_runs`."""
  home = devices.by_run(mesh)
  # Leaf by leaf: only one at a time is whole on one device.
  return jax.tree.map(
    lambda *leaves: jax.device_put(jnp.stack(leaves), home), *trees
  )


def split(tree: Any, num_runs: int) -> list[Any]:
  """What belongs to each run of a stacked tree, on the host."""
  tree = jax.device_get(tree)
  # The ellipsis keeps scalars arrays.
  return [
    jax.tree.map(lambda x, run=run: x[run, ...], tree)
    for run in range(num_runs)
  ]


def over_runs(
  function: Callable[..., Any],
  mesh: jax.sharding.Mesh | None = None,
  *,
  in_turn: bool | None = None,
) -> Callable[..., Any]:
  """`function` of one run's state, as one of all runs' states.

  Every device has its share of the runs, and nothing crosses between them.

  Args:
    function: `(state, *others) -> results`.
    mesh: of devices, from `devices.make_run_mesh`; by default one has all runs.
    in_turn: whether a device goes through its runs one after the other or
      computes all at once, vmapped; by default a CPU does the former, as one
      run is enough to keep it busy and waits for no other to be fitted.

  Returns:
    `(states, *others) -> results`, states and results leading [S].
  """
  one_by_one = backend.is_cpu(mesh) if in_turn is None else in_turn

  def of_device(states: Any, others: tuple[Any, ...]) -> Any:
    def of_run(state: Any) -> Any:
      return function(state, *others)

    if one_by_one:
      return jax.lax.map(of_run, states)
    return jax.vmap(of_run)(states)

  shared_out = parallel.share_out(
    of_device,
    mesh=mesh,
    in_specs=(devices.BY_RUN, parallel.REPLICATED),
    out_specs=devices.BY_RUN,
  )

  @functools.wraps(function)  # Errors and profiles tell its name.
  def of_all(states: Any, *others: Any) -> Any:
    return shared_out(states, others)

  return of_all
