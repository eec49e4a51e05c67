"""Flags that describe the actions and the time limit of a log."""

from typing import Any

from absl import flags

from mbmpo_jax import config as config_lib

NAMES = ('action_low', 'action_high', 'gym')

# The flags belong to the binary that calls `define`.
flags.disclaim_key_flags()


def define(flag_values: flags.FlagValues) -> None:
  """Defines the flags."""
  flags.DEFINE_list(
    'action_low',
    None,
    'Lower bounds of the actions in the log: one number, or one for each action'
    ' dimension, separated by commas. By default the bounds stated in the log,'
    ' or -1.',
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    'action_high',
    None,
    'Upper bounds of the actions in the log, in the same format. By default the'
    ' bounds stated in the log, or 1.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'gym',
    None,
    'Id of the Gymnasium environment in which the log was recorded; it defines'
    ' the bounds of actions and the time limit. The environment is not'
    ' stepped.',
    flag_values=flag_values,
  )


def read(flag_values: flags.FlagValues) -> tuple[Any, int | None]:
  """Returns the action bounds (`external.actions.Actions`) and the time limit.

  Each is `None` if no flag gives it.

  Raises:
    ConfigError: if a value is not a number, or both sources are given.
    UserError: if the environment does not exist, or the bounds are invalid.
  """
  from mbmpo_jax.training.external import gym
  from mbmpo_jax.training.logs import scaling

  given = [
    _numbers(name, flag_values[name].value) for name in NAMES if name != 'gym'
  ]
  name = flag_values['gym'].value
  if not name:
    return scaling.given(*given), None
  if any(values is not None for values in given):
    raise config_lib.ConfigError(
      f'--gym={name}: gives the bounds of actions: --action_low and'
      ' --action_high must be left out'
    )
  world = gym.Gym(gym.by_id(name))
  return world.actions, world.sizes.max_episode_steps


def _numbers(name: str, values: list[str] | None) -> list[float] | None:
  if values is None:
    return None
  try:
    return [float(value) for value in values]
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--{name}={",".join(values)}: must be numbers separated by commas'
    ) from error
