"""Work shared out over a mesh of devices; without one, it is done here.

The mesh has two axes, `models` and `tasks`. Device (i, j) holds the i-th share
of the ensemble's members and, of the tasks of each, the j-th share; minibatches
are shared out over `tasks`, environments over both. Inside a function given to
`share_out`, arrays are a device's own share of them, and nothing crosses to
another device but through `all_sum`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util

from mbmpo_jax import config as config_lib

MODELS, TASKS = AXES = ('models', 'tasks')

# How an array lies on the mesh, by its leading axes.
REPLICATED = jax.sharding.PartitionSpec()
BY_MODEL = jax.sharding.PartitionSpec(MODELS)  # [K, ...]
BY_TASK = jax.sharding.PartitionSpec(MODELS, TASKS)  # [K, P, ...]
BY_ROW = jax.sharding.PartitionSpec(TASKS)  # [B, ...] of a minibatch
BY_ENV = jax.sharding.PartitionSpec(AXES)  # [N, ...]


def share_out(
  fn: Callable,
  *,
  mesh: jax.sharding.Mesh | None,
  in_specs: Any,
  out_specs: Any,
) -> Callable:
  """`fn` on every device, each with its shares of the arguments.

  What `fn` closes over, every device has whole.

  Args:
    fn: of arrays.
    mesh: of the devices; `None` gives `fn` itself.
    in_specs: how the arguments lie on the mesh, a prefix of their trees.
    out_specs: the same of the results. One that is replicated must come out
      equal on all devices, as what `all_sum` returns does.
  """
  if mesh is None:
    return fn
  # JAX's own check of what is equal wants every loop's start marked.
  return jax.shard_map(
    fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
  )


def all_sum(
  mesh: jax.sharding.Mesh | None, axes: str | tuple[str, ...] = AXES
) -> Callable[[Any], Any]:
  """Inside `share_out`: tree -> its sum over devices along `axes`.

  One reduction, whatever the tree. Not to be differentiated: take the gradient
  of a device's own share, then sum.
  """
  if mesh is None:
    return lambda tree: tree

  def over_devices(tree: Any) -> Any:
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    return unravel(jax.lax.psum(flat, axes))

  return over_devices


def own(
  mesh: jax.sharding.Mesh | None, x: jax.Array, spec: jax.sharding.PartitionSpec
) -> jax.Array:
  """Inside `share_out`: this device's share of an `x` that all have whole.

  So that what is drawn for all does not depend on how it is shared out.
  """
  if mesh is None:
    return x
  for dimension, axis in enumerate(spec):
    length = x.shape[dimension] // mesh.shape[axis]
    start = jax.lax.axis_index(axis) * length
    x = jax.lax.dynamic_slice_in_dim(x, start, length, dimension)
  return x


def size(mesh: jax.sharding.Mesh | None, axis: str | None = None) -> int:
  """Devices along `axis`, or of the whole mesh."""
  if mesh is None:
    return 1
  return mesh.size if axis is None else mesh.shape[axis]


def replicate(mesh: jax.sharding.Mesh | None, tree: Any) -> Any:
  """`tree` as every device's own."""
  if mesh is None:
    return tree
  sharding = jax.sharding.NamedSharding(mesh, REPLICATED)
  return jax.tree.map(
    lambda x: jax.lax.with_sharding_constraint(x, sharding), tree
  )


def replicating(
  fn: Callable[[Any], Any], mesh: jax.sharding.Mesh | None
) -> Callable[[Any], Any]:
  """`fn`, whose results come out replicated, as its arguments went in."""

  @functools.wraps(fn)
  def replicated(*args: Any) -> Any:
    return replicate(mesh, fn(*args))

  return replicated


def check(
  mesh: jax.sharding.Mesh, *, num_models: int, tasks_per_model: int
) -> None:
  """Members and tasks must divide evenly over the mesh.

  Raises:
    config.ConfigError: naming the axis at fault.
  """
  if mesh.axis_names != AXES:
    raise config_lib.ConfigError(
      f'mesh: axes {mesh.axis_names} must be {AXES}; see'
      ' training.devices.make_mesh'
    )
  for axis, name, count in (
    (MODELS, 'model.num_models', num_models),
    (TASKS, 'model_rollouts.tasks_per_model', tasks_per_model),
  ):
    if count % mesh.shape[axis]:
      raise config_lib.ConfigError(
        f'{name}={count}: must be a multiple of {mesh.shape[axis]}, the'
        f' devices along the axis {axis!r} of the mesh'
      )
