"""Replaces files atomically, and reports errors of the file system."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from mbmpo_jax import errors


class WriteError(errors.UserError, RuntimeError):
  """A file of a run could not be written."""


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file's content atomically."""
  write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, data: bytes) -> None:
  """Replaces a file's content atomically."""
  # Of this process alone: several may write the same file of a figure.
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with temporary.open('wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except OSError:
    temporary.unlink(missing_ok=True)
    raise


def write_output(path: pathlib.Path, data: bytes) -> None:
  """As `write_bytes`, for a file that the user named.

  Raises:
    WriteError: naming the file and the reason.
  """
  try:
    write_bytes(path, data)
  except OSError as error:
    raise WriteError(
      f'{path}: cannot be written: {error.strerror or error}'
    ) from error


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
  """A context that turns errors of the file system into one line.

  Raises:
    WriteError: naming the folder and the reason, such as a full disk.
  """
  try:
    yield
  except OSError as error:
    raise WriteError(
      f'{folder}: cannot be written: {error.strerror or error}; its checkpoints'
      ' are intact'
    ) from error
