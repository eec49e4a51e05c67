"""Libraries without the lines that tell the person at the terminal nothing."""

import contextlib
import io
import logging as std_logging
import os
import warnings
from collections.abc import Iterator

from absl import flags
from absl import logging

# MuJoCo's JAX engine prints these where its other engine is not installed.
_NOISE = ('Failed to import warp:', 'Failed to import mujoco_warp:')


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
  """Drops known noise from standard output, and passes on everything else."""
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
  """Warnings to users in one line, without the line of source they come from.

  Of other categories, which are to programmers, Python's own lines stay.
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
  """Drops what XLA logs itself, as that compiling is slow; before JAX starts.

  What goes wrong in it is raised, or ends the process with a word all the same.
  TF_CPP_MIN_LOG_LEVEL, where it is set, decides instead.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def quiet_orbax() -> None:
  """Keeps what Orbax logs to itself."""
  # Adding a filter again is without effect.
  logging.get_absl_logger().addFilter(_is_not_of_orbax)


def _is_not_of_orbax(record: std_logging.LogRecord) -> bool:
  return '/orbax/checkpoint/' not in record.pathname


def quiet_logging(flag_values: flags.FlagValues) -> None:
  """Logs from WARNING up, unless `--verbosity` was given."""
  if 'verbosity' in flag_values:
    verbosity = flag_values['verbosity']
    if verbosity.using_default_value:
      verbosity.value = logging.WARNING
      verbosity.using_default_value = False
