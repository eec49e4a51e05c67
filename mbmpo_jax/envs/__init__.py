"""The real world: environments by name, and the contract they keep."""

import weakref
from collections.abc import Callable
from typing import Any

# First: it silences what importing the simulators says.
from mbmpo_jax.envs import base  # isort: skip
from mbmpo_jax import config
from mbmpo_jax import validation
from mbmpo_jax.envs import adapters
from mbmpo_jax.envs import ant
from mbmpo_jax.envs import cartpole_swingup
from mbmpo_jax.envs import check
from mbmpo_jax.envs import half_cheetah
from mbmpo_jax.envs import hopper
from mbmpo_jax.envs import mjcf
from mbmpo_jax.envs import physics
from mbmpo_jax.envs import point
from mbmpo_jax.envs import pr2_reacher
from mbmpo_jax.envs import randomized
from mbmpo_jax.envs import spaces
from mbmpo_jax.envs import swimmer
from mbmpo_jax.envs import walker2d
from mbmpo_jax.envs import warp

Adapted = adapters.Adapted
Box = spaces.Box
Discrete = spaces.Discrete
Environment = base.Environment
ContractError = check.ContractError
MjcfError = mjcf.MjcfError
PhysicsError = physics.PhysicsError
Randomized = randomized.Randomized
WarpError = warp.WarpError
check_environment = check.check_environment
on_warp = warp.on_warp

_FACTORIES: dict[str, Callable[..., base.Environment]] = {
  'ant': ant.Ant,
  'cartpole_swingup': cartpole_swingup.CartpoleSwingup,
  'half_cheetah': half_cheetah.HalfCheetah,
  'hopper': hopper.Hopper,
  'point': point.Point,
  'pr2_reacher': pr2_reacher.Pr2Reacher,
  'swimmer': swimmer.Swimmer,
  'walker2d': walker2d.Walker2d,
}
# Those of this package, whatever is registered later, and what `make` built of
# them, with its attributes.
_OWN = frozenset(_FACTORIES.values())
_MADE: weakref.WeakKeyDictionary[base.Environment, dict[str, Any]] = (
  weakref.WeakKeyDictionary()
)


class UnknownEnvironmentError(config.ConfigError):
  """No environment is registered under a name, or it lacks a variant."""


def make(name: str, variant: str | None = None) -> base.Environment:
  """Builds the environment registered as `name`.

  Args:
    name: one of `names()`.
    variant: one of `variants(name)`; the first of them, by default.

  Raises:
    UnknownEnvironmentError: if there is none; the message lists what there is.

  Example:
    >>> env = make('hopper', 'gymnasium')
    >>> env.observation_size, env.action_size, env.dt
    (12, 3, 0.008)
    >>> make('hoper')
    Traceback (most recent call last):
    mbmpo_jax.envs.UnknownEnvironmentError: ... (did you mean 'hopper'?)
  """
  known = variants(name)
  if variant is not None and variant not in known:
    allowed = (
      f'one of {", ".join(known)}'
      if known
      else f'None: {name!r} has no variants'
    )
    raise UnknownEnvironmentError(
      f'env.variant={variant!r}: must be {allowed}'
      + validation.nearest(variant, known)
    )
  factory = _FACTORIES[name]
  env = factory() if variant is None else factory(variant)
  if factory in _OWN:
    _MADE[env] = dict(vars(env))
  return env


def register(name: str, factory: Callable[..., base.Environment]) -> None:
  """Makes `make(name)` call `factory`.

  Args:
    name: a new name.
    factory: builds the environment. If it has an attribute `variants`, a
      mapping by name, it is given the name of one where one is asked for.

  Raises:
    ValueError: if the name is taken.
  """
  if name in _FACTORIES:
    raise ValueError(f'environment {name!r} is already registered')
  _FACTORIES[name] = factory


def is_own(env: base.Environment) -> bool:
  """Whether `make` built `env` from this package and it is as it was then.

  What is so has been checked by our tests. A subclass has not, nor has an
  environment in which an attribute was replaced, nor a copy of one, as
  `on_warp` and `physics.with_physics` return.
  """
  if type(env) not in _OWN or env not in _MADE:
    return False
  then, now = _MADE[env], vars(env)
  return then.keys() == now.keys() and all(now[k] is then[k] for k in then)


def names() -> tuple[str, ...]:
  """The registered names, sorted."""
  return tuple(sorted(_FACTORIES))


def variants(name: str) -> tuple[str, ...]:
  """The variants of an environment, the default first; often none.

  Raises:
    UnknownEnvironmentError: if there is no such environment.
  """
  if name not in _FACTORIES:
    raise UnknownEnvironmentError(
      f'env.name={name!r}: must be one of {", ".join(names())}'
      + validation.nearest(name, names())
    )
  return tuple(getattr(_FACTORIES[name], 'variants', ()))
