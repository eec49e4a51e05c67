"""Writes a pytree to a folder with Orbax, and reads it or a part of it."""

import math
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mbmpo_jax import quiet

# Upper bound of the bytes of a checkpoint beside its arrays.
_OVERHEAD = 2**18


def with_elements(x: Any) -> np.ndarray:
  """Copies an array; an empty array becomes an array with one element.

  Orbax cannot save empty arrays. The state of a simulated body has such arrays.
  """
  array = np.array(x)
  return array if array.size else np.zeros((1,) * array.ndim, array.dtype)


def without_elements(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """The inverse of `with_elements`, for an array that had a shape `shape`."""
  if 0 in shape and x.shape == (1,) * len(shape):
    return np.zeros(shape, x.dtype)
  return x


def claim_space(folder: pathlib.Path, size: int) -> None:
  """Checks that the disk has room for a checkpoint of `size` bytes.

  If Orbax runs out of space while writing, its threads raise errors that cannot
  be caught.

  Raises:
    OSError: if there is less space.
  """
  if hasattr(os, 'posix_fallocate'):
    with (folder / 'space').open('wb') as file:
      os.posix_fallocate(file.fileno(), 0, size + _OVERHEAD)


def write(path: pathlib.Path, tree: Any) -> None:
  """Writes a pytree of `with_elements` arrays into an empty folder."""
  _orbax().save(path, args=ocp.args.PyTreeSave(tree))


def read(path: pathlib.Path, abstract_tree: Any) -> Any:
  """Reads the pytree saved in a folder; new fields have their defaults.

  Raises:
    TypeError: if a number was saved in another precision, which Orbax would
      silently cast.
  """
  known = _orbax().metadata(path).item_metadata.tree
  _check_types(known, abstract_tree)
  new = {
    name: jax.device_put(np.asarray(default, like.dtype), like.sharding)
    for name, default in getattr(abstract_tree, '_field_defaults', {}).items()
    for like in [getattr(abstract_tree, name)]
    if name not in known
  }
  if new:
    whole = {n: x for n, x in abstract_tree._asdict().items() if n not in new}
    return type(abstract_tree)(**_read_all(path, whole), **new)
  return _read_all(path, abstract_tree)


def read_part(path: pathlib.Path, keys: Sequence[str]) -> Any:
  """Reads a part, as dictionaries and lists of NumPy arrays.

  Args:
    path: the folder.
    keys: the path from the root of the saved pytree to the part.
  """
  checkpointer = _orbax()
  part: Any = checkpointer.metadata(path).item_metadata.tree
  for key in keys:
    part = part[key]
  for key in reversed(keys):
    part = {key: part}
  arguments = jax.tree.map(lambda _: ocp.RestoreArgs(np.ndarray), part)
  tree = checkpointer.restore(
    path,
    args=ocp.args.PyTreeRestore(
      item=part, restore_args=arguments, partial_restore=True
    ),
  )
  for key in keys:
    tree = tree[key]
  return tree


def _check_types(known: Any, abstract_tree: Any) -> None:
  found = {
    _names(path): leaf.dtype
    for path, leaf in jax.tree_util.tree_leaves_with_path(known)
    if hasattr(leaf, 'dtype')
  }
  for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_tree):
    name = _names(path)
    if name in found and found[name] != leaf.dtype:
      raise TypeError(
        f'its {name} has type {np.dtype(found[name])}: must have'
        f' {np.dtype(leaf.dtype)}'
      )


def _names(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _read_all(path: pathlib.Path, abstract_tree: Any) -> Any:
  saved = jax.tree.map(
    lambda x: (
      x
      if math.prod(x.shape)
      else jax.ShapeDtypeStruct(
        (1,) * len(x.shape), x.dtype, sharding=x.sharding
      )
    ),
    abstract_tree,
  )
  arguments = ocp.checkpoint_utils.construct_restore_args(saved)
  tree = _orbax().restore(
    path, args=ocp.args.PyTreeRestore(item=saved, restore_args=arguments)
  )
  return jax.tree.map(
    lambda x, read: (
      read
      if math.prod(x.shape)
      else jax.device_put(np.zeros(x.shape, x.dtype), x.sharding)
    ),
    abstract_tree,
    tree,
  )


def _orbax() -> ocp.Checkpointer:
  """Returns a checkpointer that does not synchronise with other processes."""
  quiet.quiet_orbax()  # It also logs its errors.
  me = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=me,
    active_processes={me},
    barrier_sync_key_prefix=f'{me}.{threading.get_ident()}',
  )
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
  return ocp.Checkpointer(handler, multiprocessing_options=alone)
