"""Files in a run's folder about environments from outside this package.

`world.json` has the sizes of an environment outside JAX; with it, a policy can
be loaded without the environment and its task. `environment.json` names the
module that registered an environment, so that an error message can name it if
it has not been imported. It is not imported automatically.
"""

import json
import pathlib
import shlex
from typing import Any

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.envs import spaces
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import folder as folder_lib

_NAME = 'world.json'
_ORIGIN = 'environment.json'
_LONGEST = 500
_TYPES = {
  'name': str,
  'observation_size': int,
  'action_size': int,
  'discrete': bool,
  'max_episode_steps': int,
  'dt': float,
}


def write(root: pathlib.Path, sizes: dict[str, Any]) -> None:
  """Writes the sizes of an environment (`training.external.task.Sizes`)."""
  with atomic.writing(root):
    atomic.write_text(root / _NAME, json.dumps(sizes, indent=2) + '\n')


def read(root: pathlib.Path) -> dict[str, Any]:
  """Reads the sizes.

  Raises:
    ConfigError: if they do not exist or are not valid.
  """
  path = root / _NAME
  try:
    sizes = folder_lib.read_fields(path)
  except (OSError, ValueError) as error:
    raise config_lib.ConfigError(
      f'--workdir={root}: must hold a run of training.external, but its'
      f' {_NAME} cannot be read ({error})'
    ) from error
  for name, kind in _TYPES.items():
    value: Any = sizes.get(name)
    allowed = type(value) is kind
    if kind is int and allowed:
      allowed = 0 < int(value) < 10**6
    if not allowed:
      known = f'a {kind.__name__}'
      if kind is int:
        known = 'an int >= 1 and < 1000000'
      raise config_lib.ConfigError(f'{path}: {name}={value!r}: must be {known}')
  return sizes


def remember(root: pathlib.Path, config: config_lib.Experiment) -> None:
  """Writes the name of the module that registered a user's environment."""
  found = envs.origin(config.env.name)
  if found is None:
    return
  module, factory = found
  tree = {'import': module, 'environment': f'{module}:{factory}'}
  with atomic.writing(root):
    atomic.write_text(root / _ORIGIN, json.dumps(tree, indent=2) + '\n')


def registered(
  root: pathlib.Path,
  config: config_lib.Experiment,
  episode_length: int | None = None,
) -> envs.Environment:
  """Returns the environment by its name.

  Args:
    root: the run's folder.
    config: the run's configuration.
    episode_length: as for `envs.from_config`.

  Raises:
    UnknownEnvironmentError: if it is not registered; the message names the
      module that registered it in the original run.
  """
  try:
    return envs.from_config(config.env, episode_length=episode_length)
  except envs.UnknownEnvironmentError as error:
    module = _remembered(root)
    if module is None or config.env.name in envs.names():
      raise
    raise envs.UnknownEnvironmentError(
      f'env.name={config.env.name!r}: is not registered; the run in {root} used'
      f' a module, which must be imported by --import={module}; this runs its'
      ' code'
    ) from error


def _remembered(root: pathlib.Path) -> str | None:
  """Returns the argument for `--import` that the folder records, or `None`."""
  try:
    module = folder_lib.read_fields(root / _ORIGIN).get('import')
  except (OSError, ValueError):
    return None
  # The file may come from others, and the text is printed to a terminal.
  if not isinstance(module, str) or not module.isprintable():
    return None
  return shlex.quote(module) if 0 < len(module) <= _LONGEST else None


def environment(
  root: pathlib.Path, config: config_lib.Experiment
) -> envs.Environment:
  """Returns a run's environment: by its configuration, or by saved sizes.

  Raises:
    ConfigError: if it is not registered, or the sizes cannot be read.
  """
  if not (root / _NAME).exists():
    return registered(root, config)
  sizes = read(root)
  space = spaces.Discrete if sizes['discrete'] else spaces.Box
  model = getattr(config, 'model', None)

  def nobody_says(*args: Any, **kwargs: Any) -> Any:
    raise elsewhere.ElsewhereError(
      f'--workdir={root}: does not contain the task, which a policy that plans'
      ' needs: must be given as `task` of external.evaluate'
    )

  def known_or_predicted(part: str) -> Any:
    predicted = getattr(model, f'predict_{part}', False)
    return elsewhere.PREDICTED if predicted else nobody_says

  return elsewhere.Elsewhere(
    observation_size=sizes['observation_size'],
    action_space=space(sizes['action_size']),
    max_episode_steps=sizes['max_episode_steps'],
    dt=sizes['dt'],
    reward=known_or_predicted('reward'),
    done=known_or_predicted('done'),
  )
