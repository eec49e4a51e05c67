"""Locks a folder, so that only one process uses it."""

import fcntl
import os
import pathlib
import socket
import warnings
from typing import TextIO

from mbmpo_jax import config as config_lib

NAME = '.lock'


def hold(folder: pathlib.Path) -> TextIO:
  """Creates and locks a folder until the returned file is closed.

  The end of the process also closes it.

  Raises:
    ConfigError: if another process holds the lock (the message names the
      folder), or the folder cannot be written.
  """
  path = folder / NAME
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = path.open('a+', encoding='utf-8')
  except OSError as error:
    raise config_lib.ConfigError(
      f'--workdir={folder}: cannot be written: {error.strerror}'
    ) from error
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.seek(0)
    holder = file.read().strip() or 'another process'
    file.close()
    raise config_lib.ConfigError(
      f'--workdir={folder}: {holder} is running in it; wait until it ends, or'
      ' use another --workdir'
    ) from error
  except OSError as error:
    warnings.warn(
      f'{folder} is on a file system without locks ({error.strerror}); do not'
      ' start another run in it',
      stacklevel=2,
    )
  file.truncate(0)
  file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
  file.flush()
  return file
