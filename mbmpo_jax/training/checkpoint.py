"""Checkpoints of a whole pytree: atomic, the newest few kept."""

import pathlib
import warnings
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mbmpo_jax import errors
from mbmpo_jax.training import devices


class CheckpointError(errors.UserError, RuntimeError):
  """A checkpoint could not be written, or none of those there can be read."""


class Checkpointer:
  """Writes and reads the checkpoints of one folder, one subfolder per step."""

  def __init__(self, directory: pathlib.Path, *, keep: int = 3) -> None:
    """Opens the folder, which is created when something is first saved.

    Args:
      directory: where the checkpoints are.
      keep: the newest checkpoints that stay; older ones are deleted.
    """
    self._directory = directory.absolute()
    self._keep = keep
    self._manager: ocp.CheckpointManager | None = None

  @property
  def steps(self) -> list[int]:
    """The steps of the complete checkpoints, oldest first."""
    if not self._directory.is_dir():
      return []
    return sorted(self._open().all_steps())

  def save(self, step: int, tree: Any) -> None:
    """Writes a pytree of arrays; returns once it is complete on the disk.

    Raises:
      CheckpointError: if the step exists, or is older than the newest.
    """
    manager = self._open()
    if not manager.save(step, args=ocp.args.StandardSave(tree)):
      raise CheckpointError(
        f'checkpoint {step} was not written to {self._directory}: it holds'
        f' step {manager.latest_step()}'
      )
    manager.wait_until_finished()

  def restore_latest(
    self, abstract_tree: Any, *, until: int | None = None
  ) -> tuple[int, Any] | None:
    """Reads the newest checkpoint that can be read.

    An unreadable one is warned about by name and set aside (renamed to
    `<step>.unreadable`), so that its step can be written again.

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
    steps = [s for s in self.steps if until is None or s <= until]
    unreadable = []
    for step in reversed(steps):
      try:
        tree = self._open().restore(
          step, args=ocp.args.StandardRestore(abstract_tree)
        )
      except Exception as error:  # Orbax raises whatever its readers raise.
        unreadable.append((step, error))
        continue
      for bad_step, reason in unreadable:
        aside = self._set_aside(bad_step, 'unreadable')
        warnings.warn(
          f'checkpoint {bad_step} cannot be read, falling back to {step};'
          f' it is kept as {aside} ({_first_line(reason)})',
          stacklevel=2,
        )
      return step, tree
    if unreadable:
      raise CheckpointError(
        f'no checkpoint in {self._directory} can be read: {steps};'
        f' the newest says: {_first_line(unreadable[0][1])}'
      ) from unreadable[0][1]
    return None

  def set_aside_after(self, step: int) -> list[pathlib.Path]:
    """Renames the checkpoints after `step` to `<step>.superseded`."""
    later = [s for s in self.steps if s > step]
    return [self._set_aside(s, 'superseded') for s in later]

  def close(self) -> None:
    """Waits for what is being written and releases the folder."""
    if self._manager is not None:
      self._manager.close()
      self._manager = None

  def _open(self) -> ocp.CheckpointManager:
    if self._manager is None:
      options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.LatestN(self._keep),
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
      )
      self._manager = ocp.CheckpointManager(self._directory, options=options)
    return self._manager

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
    self._open().reload()
    return target


def _first_line(error: Exception) -> str:
  text = str(error).strip()
  return f'{type(error).__name__}: {text.splitlines()[0] if text else ""}'
