"""The real world: environments by name, and the contract they keep."""

from collections.abc import Callable

from mbmpo_jax import config
from mbmpo_jax import validation
from mbmpo_jax.envs import base
from mbmpo_jax.envs import check
from mbmpo_jax.envs import half_cheetah
from mbmpo_jax.envs import mjcf
from mbmpo_jax.envs import point

Environment = base.Environment
ContractError = check.ContractError
MjcfError = mjcf.MjcfError
check_environment = check.check_environment

_FACTORIES: dict[str, Callable[[], base.Environment]] = {
  'half_cheetah': half_cheetah.HalfCheetah,
  'point': point.Point,
}


class UnknownEnvironmentError(config.ConfigError):
  """No environment is registered under a name."""


def make(name: str) -> base.Environment:
  """Builds the environment registered as `name`.

  Raises:
    UnknownEnvironmentError: if there is none; the message lists the names.
  """
  if name not in _FACTORIES:
    raise UnknownEnvironmentError(
      f'env.name={name!r}: must be one of {", ".join(names())}'
      + validation.nearest(name, names())
    )
  return _FACTORIES[name]()


def register(name: str, factory: Callable[[], base.Environment]) -> None:
  """Makes `make(name)` call `factory`.

  Raises:
    ValueError: if the name is taken.
  """
  if name in _FACTORIES:
    raise ValueError(f'environment {name!r} is already registered')
  _FACTORIES[name] = factory


def names() -> tuple[str, ...]:
  """The registered names, sorted."""
  return tuple(sorted(_FACTORIES))
