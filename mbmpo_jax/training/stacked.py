"""Several runs in one program: states are stacked on a leading axis [S]."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import parallel
from mbmpo_jax.training import devices


def stack(trees: Sequence[Any], mesh: jax.sharding.Mesh | None = None) -> Any:
  """Stacks the pytrees of S runs, sharded as `over_runs` needs them."""
  home = devices.by_run(mesh)
  # Leaf by leaf, so that only one leaf at a time is complete on one device.
  return jax.tree.map(
    lambda *leaves: jax.device_put(jnp.stack(leaves), home), *trees
  )


def split(tree: Any, num_runs: int) -> list[Any]:
  """Returns the pytree of each run of a stacked pytree, on the host."""
  tree = jax.device_get(tree)
  # With the ellipsis, scalars remain arrays.
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
  """Maps `function` of one run's state over the states of all runs.

  Every device processes its share of the runs, without communication.

  Args:
    function: `(state, *others) -> results`.
    mesh: a mesh from `devices.make_run_mesh`; by default one device has all
      runs.
    in_turn: whether a device processes its runs one after the other, or all at
      once with vmap. The default is one after the other on a CPU, because one
      run keeps it busy and each run's fit then stops when it has converged.

  Returns:
    `(states, *others) -> results`; states and results have a leading axis [S].
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

  @functools.wraps(function)  # Keeps its name in errors and profiles.
  def of_all(states: Any, *others: Any) -> Any:
    return shared_out(states, others)

  return of_all
