"""The flags that say what moved when a log was written."""

from typing import Any

from absl import flags

from mbmpo_jax import config as config_lib

NAMES = ('action_low', 'action_high', 'gym')

# Belong to the binary that calls `define`.
flags.disclaim_key_flags()


def define(flag_values: flags.FlagValues) -> None:
  """Defines them."""
  flags.DEFINE_list(
    'action_low',
    None,
    'The least actions in the log, one number or one for each column, with'
    ' commas; by default what the log says of them, or -1.',
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    'action_high',
    None,
    'The greatest, in the same way; by default what the log says, or 1.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'gym',
    None,
    "An environment's id in Gymnasium that the log is of: it says the bounds of"
    ' actions and the time limit. It is not stepped.',
    flag_values=flag_values,
  )


def read(flag_values: flags.FlagValues) -> tuple[Any, int | None]:
  """The bounds (`external.actions.Actions`) and the time limit, as far as said.

  Raises:
    ConfigError: if something is no number, or both are said.
    UserError: if there is no such environment, or no such bounds.
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
      f'--gym={name}: says the bounds of actions: --action_low and'
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
      f'--{name}={",".join(values)}: must be numbers, with commas between them'
    ) from error
