"""Flags that name an object by module:attribute: `--task=my_tasks:pendulum`."""

import importlib
import sys
from typing import Any

from mbmpo_jax import config as config_lib


def load(flag: str, name: str) -> Any:
  """Returns the attribute of a module, also from the working folder.

  Args:
    flag: the flag's name, for the error message.
    name: module:attribute.

  Raises:
    ConfigError: if it does not exist.
  """
  module, _, attribute = name.partition(':')
  sys.path.insert(0, '')  # as `python -m` does
  try:
    return getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise config_lib.ConfigError(
      f'--{flag}={name}: must be module:attribute: {error}'
    ) from error
