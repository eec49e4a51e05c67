"""Atomic, verified checkpoints of a pytree, of which the newest are kept.

A checkpoint is a folder named after its step. While it is written or deleted,
its name is `<step>.partial`, and the next save removes such folders. It gets
its final name only when it is complete, with checksums of all its files. The
process may therefore be killed at any time, and later corruption is detected by
the checksums.
"""

import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax

from mbmpo_jax import errors
from mbmpo_jax.training import devices
from mbmpo_jax.training.storage import manifest
from mbmpo_jax.training.storage import trees


class CheckpointError(errors.UserError, RuntimeError):
  """A checkpoint cannot be written, or no existing one can be read."""


class Checkpointer:
  """Writes and reads the checkpoints of one folder, one subfolder per step.

  With several processes, the first one writes, and all must be able to read the
  folder.
  """

  def __init__(self, directory: pathlib.Path, *, keep: int = 3) -> None:
    """Accesses no file yet.

    Args:
      directory: the folder of the checkpoints; created by the first save.
      keep: number of newest checkpoints to keep; older ones are deleted.
    """
    self._directory = directory.absolute()
    self._keep = keep
    self._writer = futures.ThreadPoolExecutor(1, 'checkpoint')
    self._pending: futures.Future[None] | None = None

  @property
  def steps(self) -> list[int]:
    """The steps of the complete checkpoints, oldest first."""
    return steps(self._directory)

  def save(self, step: int, tree: Any) -> None:
    """Copies a pytree of arrays to the host, and writes it in the background.

    The arrays may be donated or changed once this returns. Only one checkpoint
    is written at a time: a save waits for the one before. An older checkpoint
    is deleted only when the new one is complete.

    Args:
      step: larger than all existing steps.
      tree: the pytree; equal in all processes.

    Raises:
      CheckpointError: if the step exists or is smaller than the newest, or the
        previous checkpoint could not be written.
    """
    self.wait()
    if not devices.is_first_process():
      return
    newest = max(self.steps, default=-1)
    if step <= newest:
      raise CheckpointError(
        f'checkpoint {step} was not written to {self._directory}: must be >'
        f' {newest}, the newest there'
      )
    # For arrays on the host, and for all arrays on a CPU, `device_get` returns
    # views, which would prevent their buffers from being reused.
    host = jax.tree.map(trees.with_elements, jax.device_get(tree))
    self._pending = self._writer.submit(self._write, step, host)

  def wait(self) -> None:
    """Waits until the saved checkpoint is complete on disk.

    Raises:
      CheckpointError: if it could not be written.
    """
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def check(self) -> None:
    """Like `wait`, but returns at once if the writing has not ended."""
    if self._pending is not None and self._pending.done():
      self.wait()

  def restore_latest(
    self, abstract_tree: Any, *, until: int | None = None
  ) -> tuple[int, Any] | None:
    """Reads the newest checkpoint that is readable and unaltered.

    Each newer one causes a warning with its name and is renamed to
    `<step>.unreadable`, so that its step can be written again.

    Args:
      abstract_tree: the pytree to read, of `jax.ShapeDtypeStruct` with
        shardings.
      until: the largest step to consider; by default all.

    Returns:
      The step and the pytree, or `None` if there is no checkpoint.

    Raises:
      CheckpointError: if there are checkpoints but none can be read; then none
        is renamed.
    """
    found = [s for s in self.steps if until is None or s <= until]
    if not found:
      return None
    step, tree, unreadable = _newest_readable(
      self._directory, found, lambda path: trees.read(path, abstract_tree)
    )
    for bad_step, reason in unreadable:
      aside = self._set_aside(bad_step, 'unreadable')
      warnings.warn(
        f'{_falls_back(bad_step, step, reason)}; it is kept as {aside}',
        stacklevel=2,
      )
    return step, tree

  def set_aside_after(self, step: int) -> list[pathlib.Path]:
    """Renames the checkpoints after `step` to `<step>.superseded`."""
    later = [s for s in self.steps if s > step]
    return [self._set_aside(s, 'superseded') for s in later]

  def close(self) -> None:
    """Waits for the checkpoint that is being written.

    Raises:
      CheckpointError: if it could not be written.
    """
    try:
      self.wait()
    finally:
      self._writer.shutdown()

  def _write(self, step: int, tree: Any) -> None:
    """Runs in the background."""
    partial = self._directory / f'{step}.partial'
    try:
      self._sweep()
      partial.mkdir(parents=True)
      trees.claim_space(partial, sum(x.nbytes for x in jax.tree.leaves(tree)))
      self._sweep()
      trees.write(partial, tree)
      manifest.write(partial)
      partial.rename(self._directory / str(step))
      manifest.flush_folder(self._directory)
      for old in self.steps[: -self._keep]:
        (self._directory / str(old)).rename(self._directory / f'{old}.partial')
      self._sweep()
    except Exception as error:  # Orbax may raise anything.
      self._sweep()
      raise CheckpointError(
        f'checkpoint {step} cannot be written to {self._directory}:'
        f' {_reason(error)}; earlier checkpoints are intact'
      ) from error

  def _sweep(self) -> None:
    for partial in self._directory.glob('*.partial*'):
      shutil.rmtree(partial, ignore_errors=True)

  def _set_aside(self, step: int, why: str) -> pathlib.Path:
    source = self._directory / str(step)
    target = self._directory / f'{step}.{why}'
    count = 1
    while target.exists():
      count += 1
      target = self._directory / f'{step}.{why}.{count}'
    devices.wait_for_all('checkpoints found')
    if devices.is_first_process():
      source.rename(target)
    devices.wait_for_all('checkpoint set aside')
    return target


def steps(directory: pathlib.Path) -> list[int]:
  """Returns the steps of the complete checkpoints in a folder, ascending."""
  if not directory.is_dir():
    return []
  return sorted(
    int(path.name)
    for path in directory.iterdir()
    if manifest.is_step(path.name)
  )


def read_part(
  directory: pathlib.Path, keys: Sequence[str], *, only: int | None = None
) -> tuple[int, Any] | None:
  """Reads a part of the newest readable checkpoint to the host.

  Nothing is written, and a process that trains in the folder is not disturbed.

  Args:
    directory: the folder of the checkpoints.
    keys: the path from the root of the saved pytree to the part.
    only: the step to read, in place of the newest readable one.

  Returns:
    The step, and the part as dictionaries and lists of NumPy arrays; `None` if
    there is no checkpoint.

  Raises:
    CheckpointError: if there are checkpoints but none can be read.
  """
  directory = directory.absolute()  # as Orbax requires
  while found := [x for x in steps(directory) if only in (None, x)]:
    try:
      step, tree, unreadable = _newest_readable(
        directory, found, lambda path: trees.read_part(path, keys)
      )
    except CheckpointError:
      if [x for x in steps(directory) if only in (None, x)] != found:
        continue  # A run has replaced them in the meantime.
      raise
    for bad_step, reason in unreadable:
      if (directory / str(bad_step)).exists():
        warnings.warn(_falls_back(bad_step, step, reason), stacklevel=2)
    return step, tree
  return None


def _newest_readable(
  directory: pathlib.Path,
  found: Sequence[int],
  read: Callable[[pathlib.Path], Any],
) -> tuple[int, Any, list[tuple[int, Exception]]]:
  """Returns the newest readable step, its content, and errors of newer ones.

  Raises:
    CheckpointError: if none can be read.
  """
  unreadable: list[tuple[int, Exception]] = []
  for step in reversed(found):
    path = directory / str(step)
    try:
      # First, so that a damaged file is never parsed.
      manifest.verify(path)
      return step, read(path), unreadable
    except Exception as error:  # Orbax may raise anything.
      unreadable.append((step, error))
  raise CheckpointError(
    f'no checkpoint in {directory} can be read: {list(found)};'
    f' the newest: {_reason(unreadable[0][1])}'
  ) from unreadable[0][1]


def _falls_back(bad_step: int, step: int, error: Exception) -> str:
  return (
    f'checkpoint {bad_step} cannot be read, falling back to {step}'
    f' ({_reason(error)})'
  )


def _reason(error: Exception) -> str:
  """Describes an error in one line; file system errors by name only."""
  text = str(error).strip()
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  # Errors of tensorstore, which Orbax uses, are ValueErrors.
  found = re.search(r"os_error_code='(\d+)'", text)
  if found:
    return os.strerror(int(found[1]))
  if isinstance(error, manifest.ManifestError):
    return text
  return f'{type(error).__name__}: {text.splitlines()[0] if text else ""}'
