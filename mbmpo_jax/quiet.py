"""Suppresses messages of libraries that are of no use to the user."""

import contextlib
import io
import logging as std_logging
import os
import warnings
from collections.abc import Iterator

from absl import flags
from absl import logging

# MuJoCo's JAX engine prints these if MuJoCo Warp is not installed.
_NOISE = ('Failed to import warp:', 'Failed to import mujoco_warp:')


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
  """A context that drops known noise from standard output, nothing else."""
  printed = io.StringIO()
  try:
    with contextlib.redirect_stdout(printed):
      yield
  finally:
    for line in printed.getvalue().splitlines():
      if not line.startswith(_NOISE):
        print(line)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
  """A context that shows a `UserWarning` as one line, without its source line.

  Other categories of warnings, which address programmers, keep Python's format.
  """
  kept = warnings.formatwarning

  def plain(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
  ) -> str:
    if category is UserWarning:
      return f'warning: {message}\n'
    return kept(message, category, filename, lineno, line)

  warnings.formatwarning = plain
  try:
    yield
  finally:
    warnings.formatwarning = kept


def quiet_xla() -> None:
  """Suppresses XLA's logs, as of slow compilations; call it before JAX starts.

  Errors are not lost: they are raised as exceptions, or end the process with a
  message. If TF_CPP_MIN_LOG_LEVEL is set, it decides instead.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def quiet_orbax() -> None:
  """Suppresses Orbax's log messages."""
  # Adding the same filter again has no effect.
  logging.get_absl_logger().addFilter(_is_not_of_orbax)


def _is_not_of_orbax(record: std_logging.LogRecord) -> bool:
  return '/orbax/checkpoint/' not in record.pathname


def quiet_logging(flag_values: flags.FlagValues) -> None:
  """Sets the log level to WARNING unless `--verbosity` was given."""
  if 'verbosity' in flag_values:
    verbosity = flag_values['verbosity']
    if verbosity.using_default_value:
      verbosity.value = logging.WARNING
      verbosity.using_default_value = False
