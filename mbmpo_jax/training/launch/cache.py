"""The persistent compilation cache, so that a second start compiles little."""

import os
import pathlib
import warnings

import jax

_MIN_COMPILE_TIME_S = 0.5


def enable() -> pathlib.Path | None:
  """Makes XLA cache programs that took over half a second to compile.

  The folder is `JAX_COMPILATION_CACHE_DIR` if it is set, or the folder that the
  program has set in JAX's configuration, otherwise `mbmpo_jax/xla` in the
  user's cache folder (`XDG_CACHE_HOME` or `~/.cache`). JAX's own variables
  override everything set here; in particular
  `JAX_ENABLE_COMPILATION_CACHE=false` turns the cache off.

  Returns:
    The cache's folder, or `None` if that variable is set but empty, or if there
    is no home folder; a message reports the latter.
  """
  folder = os.environ.get('JAX_COMPILATION_CACHE_DIR')
  if folder is None:
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
  if folder is None:
    folder = _in_home()
    if folder is None:
      return None
    jax.config.update('jax_compilation_cache_dir', folder)
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update(
      'jax_persistent_cache_min_compile_time_secs', _MIN_COMPILE_TIME_S
    )
  return pathlib.Path(folder) if folder else None


def _in_home() -> str | None:
  """Creates and returns the folder."""
  try:
    base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    folder = pathlib.Path(base) / 'mbmpo_jax' / 'xla'
    folder.mkdir(parents=True, exist_ok=True)
  except (OSError, RuntimeError) as error:
    warnings.warn(
      'compiled programs are not kept for the next start:'
      f' {getattr(error, "strerror", None) or error}; set'
      ' JAX_COMPILATION_CACHE_DIR to a folder that can be written',
      stacklevel=3,
    )
    return None
  return str(folder)
