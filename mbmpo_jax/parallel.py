"""Sharding of work over a mesh of devices.

The mesh has two axes, `models` and `tasks`. Device (i, j) holds the i-th share
of the ensemble members, and the j-th share of each of these members' tasks.
Minibatches are sharded over `tasks`, environments over both axes. Inside a
function given to `share_out`, arrays are the device's shares, and only
`all_sum` and `whole` communicate between devices. If the mesh is `None`, every
function here runs on the default device.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util

from mbmpo_jax import config as config_lib

MODELS, TASKS = AXES = ('models', 'tasks')

# The sharding of an array's leading axes.
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
  """Returns `fn` run on every device of the mesh, each on its shares.

  Values that `fn` closes over are replicated on every device.

  Args:
    fn: a function of arrays.
    mesh: the mesh of devices; `None` returns `fn` itself.
    in_specs: partition specs of the arguments, a prefix of their pytrees.
    out_specs: partition specs of the results. A replicated result must be equal
      on all devices, as the result of `all_sum` is.
  """
  if mesh is None:
    return fn
  # JAX's check that results are equal would need annotations on the initial
  # carry of every loop.
  return jax.shard_map(
    fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
  )


def all_sum(
  mesh: jax.sharding.Mesh | None, axes: str | tuple[str, ...] = AXES
) -> Callable[[Any], Any]:
  """Returns a function tree -> its sum over devices, for use in `share_out`.

  The function does one reduction for the whole pytree, over the devices along
  `axes`. Do not differentiate through it: take the gradient of the device's
  share, then sum.
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
  """Inside `share_out`: returns this device's share of a replicated `x`.

  Random numbers that are drawn in full on every device and then sliced do not
  depend on the shape of the mesh.
  """
  if mesh is None:
    return x
  for dimension, axis in enumerate(spec):
    names = axis if isinstance(axis, tuple) else (axis,)
    length = x.shape[dimension] // math.prod(mesh.shape[n] for n in names)
    start = jax.lax.axis_index(axis) * length
    x = jax.lax.dynamic_slice_in_dim(x, start, length, dimension)
  return x


def whole(
  mesh: jax.sharding.Mesh | None, x: jax.Array, spec: jax.sharding.PartitionSpec
) -> jax.Array:
  """Inside `share_out`: returns the array of which devices have the shares `x`.

  The inverse of `own`; the result is equal on all devices.
  """
  if mesh is None:
    return x
  for dimension, axis in enumerate(spec):
    x = jax.lax.all_gather(x, axis, axis=dimension, tiled=True)
  return x


def size(mesh: jax.sharding.Mesh | None, axis: str | None = None) -> int:
  """Returns the number of devices along `axis`, or in the whole mesh."""
  if mesh is None:
    return 1
  return mesh.size if axis is None else mesh.shape[axis]


def replicate(mesh: jax.sharding.Mesh | None, tree: Any) -> Any:
  """Constrains `tree` to be replicated on every device of the mesh."""
  if mesh is None:
    return tree
  sharding = jax.sharding.NamedSharding(mesh, REPLICATED)
  return jax.tree.map(
    lambda x: jax.lax.with_sharding_constraint(x, sharding), tree
  )


def replicating(
  fn: Callable[[Any], Any], mesh: jax.sharding.Mesh | None
) -> Callable[[Any], Any]:
  """Wraps `fn` such that its results are replicated on every device."""

  @functools.wraps(fn)
  def replicated(*args: Any) -> Any:
    return replicate(mesh, fn(*args))

  return replicated


def check(
  mesh: jax.sharding.Mesh, *, num_models: int, tasks_per_model: int
) -> None:
  """Checks that members and tasks divide evenly over the mesh.

  Raises:
    config.ConfigError: naming the mesh axis at fault.
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
