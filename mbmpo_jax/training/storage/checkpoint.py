"""Checkpoints of a whole pytree: atomic, verified, the newest few kept.

A checkpoint is a folder named after its step. It gets that name only once it
is complete, with the sums of all its files; until then, and while it is
deleted, it is `<step>.partial`, which the next save sweeps away. So a process
may be killed at any instant. What happens to the bits later, the sums tell.
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
  """A checkpoint could not be written, or none of those there can be read."""


class Checkpointer:
  """Writes and reads the checkpoints of one folder, one subfolder per step.

  Of several processes the first writes, and all must see the folder.
  """

  def __init__(self, directory: pathlib.Path, *, keep: int = 3) -> None:
    """Touches nothing yet.

    Args:
      directory: where the checkpoints are; created when one is saved.
      keep: the newest checkpoints that stay; older ones are deleted.
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
    """Copies a pytree of arrays to the host, and writes that in the background.

    The arrays may be donated or changed once this returns. One checkpoint is
    written at a time: the one before is waited for. An older checkpoint is
    deleted only when the new one is complete.

    Args:
      step: newer than all that are there.
      tree: the same in all processes.

    Raises:
      CheckpointError: if the step exists, or is older than the newest, or the
        checkpoint before could not be written.
    """
    self.wait()
    if not devices.is_first_process():
      return
    newest = max(self.steps, default=-1)
    if step <= newest:
      raise CheckpointError(
        f'checkpoint {step} was not written to {self._directory}: it holds'
        f' step {newest}'
      )
    # Of what is on the host already, and of all on a CPU, `device_get` gives
    # views; those would keep buffers from being reused.
    host = jax.tree.map(trees.with_elements, jax.device_get(tree))
    self._pending = self._writer.submit(self._write, step, host)

  def wait(self) -> None:
    """Returns once what was saved is complete on the disk.

    Raises:
      CheckpointError: if it could not be written.
    """
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def check(self) -> None:
    """Like `wait`, but only if the writing has already ended."""
    if self._pending is not None and self._pending.done():
      self.wait()

  def restore_latest(
    self, abstract_tree: Any, *, until: int | None = None
  ) -> tuple[int, Any] | None:
    """Reads the newest checkpoint that can be read and is what was written.

    Others are warned about by name and set aside (renamed to
    `<step>.unreadable`), so that their steps can be written again.

    Args:
      abstract_tree: the pytree to read into, of `jax.ShapeDtypeStruct` with
        shardings.
      until: the newest step that counts; by default all do.

    Returns:
      The step and the pytree, or `None` where there is no checkpoint.

    Raises:
      CheckpointError: if there are checkpoints and none can be read; then all
        of them are left where they are.
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
    """Waits for what is being written.

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
    except Exception as error:  # Orbax raises whatever its writers raise.
      self._sweep()
      raise CheckpointError(
        f'checkpoint {step} cannot be written to {self._directory}:'
        f' {_reason(error)}; those before it are whole'
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
  """The steps of the complete checkpoints in a folder, oldest first."""
  if not directory.is_dir():
    return []
  return sorted(
    int(path.name)
    for path in directory.iterdir()
    if manifest.is_step(path.name)
  )


def read_part(
  directory: pathlib.Path, keys: Sequence[str]
) -> tuple[int, Any] | None:
  """Reads a part of the newest checkpoint that can be read, to the host.

  Nothing is written, and a run that goes on meanwhile is not disturbed.

  Args:
    directory: where the checkpoints are.
    keys: the way from the root of the saved tree to the part.

  Returns:
    The step, and the part as dictionaries and lists of NumPy arrays; `None`
    where there is no checkpoint.

  Raises:
    CheckpointError: if there are checkpoints and none can be read.
  """
  directory = directory.absolute()  # As Orbax needs it.
  while found := steps(directory):
    try:
      step, tree, unreadable = _newest_readable(
        directory, found, lambda path: trees.read_part(path, keys)
      )
    except CheckpointError:
      if steps(directory) != found:
        continue  # A run has replaced them under our hands.
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
  """The newest of some steps, what is read of it, what is wrong with others.

  Raises:
    CheckpointError: if none can be read.
  """
  unreadable: list[tuple[int, Exception]] = []
  for step in reversed(found):
    path = directory / str(step)
    try:
      # First: nothing of a damaged file is ever interpreted.
      manifest.verify(path)
      return step, read(path), unreadable
    except Exception as error:  # Orbax raises whatever its readers raise.
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
  """What is wrong, in one line; of the file system's errors only their name."""
  text = str(error).strip()
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  # What tensorstore raises, which Orbax writes with, is a ValueError.
  found = re.search(r"os_error_code='(\d+)'", text)
  if found:
    return os.strerror(int(found[1]))
  if isinstance(error, manifest.ManifestError):
    return text
  return f'{type(error).__name__}: {text.splitlines()[0] if text else ""}'
