"""What a flag names by module:attribute, as `--task=my_tasks:pendulum`."""

import importlib
import sys
from typing import Any

from mbmpo_jax import config as config_lib


def load(flag: str, name: str) -> Any:
  """The attribute of a module that can be imported from the working folder.

  Args:
    flag: its name, for the message.
    name: module:attribute.

  Raises:
    ConfigError: if there is none.
  """
  module, _, attribute = name.partition(':')
  sys.path.insert(0, '')  # As `python -m` does.
  try:
    return getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise config_lib.ConfigError(
      f'--{flag}={name}: must be module:attribute: {error}'
    ) from error
