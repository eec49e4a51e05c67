"""SHA-256 checksums of a folder's files, in the format of `sha256sum`."""

import hashlib
import os
import pathlib
import re

NAME = 'SHA256SUMS'


class ManifestError(Exception):
  """The files of a folder do not match their checksums."""


def write(folder: pathlib.Path) -> None:
  """Writes the checksums, and flushes all files to disk."""
  text = _sums(folder, flush=True)
  with (folder / NAME).open('wb') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  for directory in (folder, *(p for p in folder.rglob('*') if p.is_dir())):
    flush_folder(directory)


def verify(folder: pathlib.Path, *, new_allowed: bool = False) -> None:
  """Compares every file with its checksum.

  Args:
    folder: the folder.
    new_allowed: whether to ignore files without a checksum, such as files that
      desktop environments create.

  Raises:
    ManifestError: if a file is missing, new or changed, or there are no
      checksums.
  """
  if not (folder / NAME).is_file():
    raise ManifestError(f'it has no {NAME}')
  recorded = (folder / NAME).read_bytes()
  found = _sums(folder, flush=False)
  if recorded == found:
    return
  before, now = _by_name(recorded), _by_name(found)
  for name in [*now, *before]:
    if name not in now:
      raise ManifestError(f'its file {name} is missing')
    if name not in before and new_allowed:
      continue
    if before.get(name) != now[name]:
      raise ManifestError(f'its file {name} does not match {NAME}')
  if not (new_allowed and now.keys() - before.keys()):
    raise ManifestError(f'its file {NAME} is damaged')


def names(folder: pathlib.Path) -> set[str]:
  """Returns the names of the files that have a checksum."""
  return set(_by_name((folder / NAME).read_bytes()))


def is_step(name: str) -> bool:
  """Whether a folder of this name is a checkpoint: a decimal step number."""
  # `int` would also accept digits of other scripts and leading zeros.
  return re.fullmatch(r'0|[1-9][0-9]{0,9}', name) is not None


def flush_folder(folder: pathlib.Path) -> None:
  """Flushes the names in a folder to disk, in case of a power failure."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _sums(folder: pathlib.Path, *, flush: bool) -> bytes:
  files = sorted(p for p in folder.rglob('*') if p.is_file())
  lines = []
  for path in files:
    name = path.relative_to(folder).as_posix()
    if name == NAME:
      continue
    with path.open('rb') as file:
      lines.append(f'{hashlib.file_digest(file, "sha256").hexdigest()}  {name}')
      if flush:
        os.fsync(file.fileno())
  return ''.join(f'{line}\n' for line in lines).encode()


def _by_name(sums: bytes) -> dict[str, str]:
  lines = sums.decode(errors='replace').splitlines()
  return {
    name: digest for digest, _, name in (x.partition('  ') for x in lines)
  }
