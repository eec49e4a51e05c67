"""The real world: environments by name, and the contract they keep."""

import contextlib
import importlib.machinery
import pathlib
import sys
import weakref
from collections.abc import Callable
from typing import Any

# First: it silences what importing the simulators says.
from mbmpo_jax.envs import base  # isort: skip
from mbmpo_jax import config
from mbmpo_jax import validation
from mbmpo_jax.envs import adapters
from mbmpo_jax.envs import check
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.envs import families
from mbmpo_jax.envs import mjcf
from mbmpo_jax.envs import of_family
from mbmpo_jax.envs import physics
from mbmpo_jax.envs import randomized
from mbmpo_jax.envs import spaces
from mbmpo_jax.envs import tasked
from mbmpo_jax.envs import warp
from mbmpo_jax.envs import worlds

Adapted = adapters.Adapted
Box = spaces.Box
Discrete = spaces.Discrete
Elsewhere = elsewhere.Elsewhere
Environment = base.Environment
Family = families.Family
Tasked = tasked.Tasked
TaskError = families.TaskError
ContractError = check.ContractError
MjcfError = mjcf.MjcfError
PhysicsError = physics.PhysicsError
Randomized = randomized.Randomized
WarpError = warp.WarpError
check_environment = check.check_environment
family_of = of_family.family_of
fixed = tasked.fixed
require_known = of_family.require_known
on_warp = warp.on_warp

_Factory = worlds.Factory

# Those of this package, and what users register.
_FACTORIES: dict[str, _Factory] = dict(worlds.FACTORIES)
# Those of this package, whatever is registered later, and what `make` built of
# them, with its attributes.
_OWN = frozenset(_FACTORIES.values())
_MADE: weakref.WeakKeyDictionary[base.Environment, dict[str, Any]] = (
  weakref.WeakKeyDictionary()
)
# By which name and variant `make` built an environment.
_NAMED: weakref.WeakKeyDictionary[base.Environment, tuple[str, str | None]] = (
  weakref.WeakKeyDictionary()
)


class UnknownEnvironmentError(config.ConfigError):
  """No environment is registered under a name, or it lacks a variant."""


def make(
  name: str,
  variant: str | None = None,
  *,
  split: str | None = None,
  schedule: str | None = None,
  switch_period: int | None = None,
  tell_task: bool = False,
) -> base.Environment:
  """Builds the environment registered as `name`.

  Args:
    name: one of `names()`.
    variant: one of `variants(name)`; the first of them, by default.
    split: of a task family, and so the rest (`Tasked`): which tasks are drawn;
      `train`, by default.
    schedule: when; by default as the family has it.
    switch_period: steps between changes; by default the family's.
    tell_task: whether the observation ends with the task.

  Raises:
    UnknownEnvironmentError: if there is none; the message lists what there is.
    TaskError: if what is asked of tasks is not allowed, or there are none.

  Example:
    >>> env = make('hopper', 'gymnasium')
    >>> env.observation_size, env.action_size, env.dt
    (12, 3, 0.008)
    >>> make('hoper')
    Traceback (most recent call last):
    mbmpo_jax.envs.UnknownEnvironmentError: ... (did you mean 'hopper'?)
  """
  made = _build(name, variant)
  if isinstance(made, families.Family):
    env: base.Environment = tasked.Tasked(
      made,
      split='train' if split is None else split,
      schedule=schedule,
      switch_period=switch_period,
      tell_task=tell_task,
    )
  else:
    env = made
    asked = dict(
      split=split,
      schedule=schedule,
      switch_period=switch_period,
      tell_task=tell_task or None,
    )
    for option, value in asked.items():
      if value is not None:
        raise families.TaskError(
          f'{option}={value!r}: must be left out: {name!r} has no tasks'
        )
  if _FACTORIES[name] in _OWN:
    _MADE[env] = dict(vars(env))
  with contextlib.suppress(TypeError):  # A user's may not be hashable.
    _NAMED[env] = name, variant
  return env


def family(name: str, variant: str | None = None) -> families.Family:
  """The task family registered as `name`.

  Args:
    name: of a family, among `names()`.
    variant: one of `variants(name)`; the first of them, by default.

  Raises:
    UnknownEnvironmentError: if nothing has that name, or no such variant.
    TaskError: if it is a world without tasks.

  Example:
    >>> tasks = family('acrobot').test_tasks()
    >>> tasks.first_mass.shape
    (35,)
  """
  made = _build(name, variant)
  if not isinstance(made, families.Family):
    raise families.TaskError(
      f'env.name={name!r}: has no tasks: must be a task family'
    )
  return made


def from_config(
  section: config.Env, *, episode_length: int | None = None
) -> base.Environment:
  """The environment of a configuration, with MJX's physics.

  Args:
    section: `config.env`.
    episode_length: steps of its episodes, where tasks that change within one
      are to be held to that.

  Raises:
    UnknownEnvironmentError: if there is none.
    config.ConfigError: if what is asked of tasks does not fit.
  """
  made = _build(section.name, section.variant)
  if not isinstance(made, families.Family):
    for field in ('tasks', 'switch_period', 'tell_task'):
      value = getattr(section, field)
      if value:
        default = None if field == 'tasks' else type(value)()
        raise config.ConfigError(
          f'env.{field}={value!r}: must be {default!r}:'
          f' env.name={section.name!r} has no tasks'
        )
    return make(section.name, section.variant)
  if section.physics != 'mjx':
    raise config.ConfigError(
      f"env.physics={section.physics!r}: must be 'mjx' for a world of many"
      f' tasks, as env.name={section.name!r} is'
    )
  env = make(
    section.name,
    section.variant,
    schedule=section.tasks,
    switch_period=section.switch_period or None,
    tell_task=section.tell_task,
  )
  assert isinstance(env, tasked.Tasked)
  if env.schedule == 'episode' and section.switch_period:
    raise config.ConfigError(
      f'env.switch_period={section.switch_period}: must be 0 unless'
      " env.tasks='switch'"
    )
  most = env.max_episode_steps if episode_length is None else episode_length
  if env.schedule == 'switch' and env.switch_period >= most:
    raise config.ConfigError(
      f'env.switch_period={env.switch_period}: must be < {most}, the length of'
      " an episode, or env.tasks='episode'"
    )
  return env


def _build(
  name: str, variant: str | None
) -> base.Environment | families.Family:
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
  return factory() if variant is None else factory(variant)


def register(
  name: str, factory: Callable[..., base.Environment | families.Family]
) -> None:
  """Makes `make(name)` call `factory`.

  Args:
    name: a new name.
    factory: builds the environment, or a task family. If it has an attribute
      `variants`, a mapping by name, it is given the name of one where one is
      asked for.

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
  if env not in _MADE:
    return False
  then, now = _MADE[env], vars(env)
  return then.keys() == now.keys() and all(now[k] is then[k] for k in then)


def check_named(env: base.Environment, section: config.Env) -> None:
  """Refuses a configuration that names another world than `env`.

  A run is read back by that name. An environment that `make` has not built, and
  whose class is not registered, may go by any.

  Raises:
    config.ConfigError: naming both.
  """
  built, variant = section.name, section.variant
  named = None
  with contextlib.suppress(TypeError):
    named = _NAMED.get(env)
  if named is not None:
    built, variant = named
  else:
    classes = [name for name, made in _FACTORIES.items() if made is type(env)]
    if classes and section.name not in classes:
      built = classes[0]
  said = (built, variant), (section.name, section.variant)
  if built != section.name:
    raise config.ConfigError(
      f'env.name={section.name!r}: must be {built!r}, as the environment that'
      ' is given'
    )
  if variant == section.variant:
    return
  ours, theirs = (
    v if v is not None else next(iter(variants(n)), None) for n, v in said
  )
  if ours != theirs:
    raise config.ConfigError(
      f'env.variant={section.variant!r}: must be {variant!r}, as the'
      ' environment that is given'
    )


def origin(name: str) -> tuple[str, str] | None:
  """Where an environment that was registered by a user comes from.

  Args:
    name: as registered.

  Returns:
    What `--import` takes, a module's name or a file's path, and the name of the
    factory in it; `None` for this package's own.
  """
  factory = _FACTORIES.get(name)
  if factory is None or factory in _OWN:
    return None
  kind = factory if hasattr(factory, '__qualname__') else type(factory)
  module = sys.modules.get(kind.__module__)
  file = getattr(module, '__file__', None)
  spec = getattr(module, '__spec__', None)
  # Only what the import system finds by its name again is told by it.
  if file and (kind.__module__ == '__main__' or not _found(spec)):
    return str(pathlib.Path(file).resolve()), kind.__qualname__
  return kind.__module__, kind.__qualname__


def _found(spec: Any) -> bool:
  """Whether the import system finds the module by its name from anywhere."""
  if spec is None:
    return False
  if '.' in spec.name:  # A part of a package, which is nothing as a file.
    return True
  main = getattr(sys.modules['__main__'], '__file__', None) or ''
  here = {pathlib.Path.cwd(), pathlib.Path(main).resolve().parent}
  path = [p for p in sys.path if pathlib.Path(p).resolve() not in here]
  # Not by importlib.util, which answers from `sys.modules`.
  found = importlib.machinery.PathFinder.find_spec(spec.name, path)
  return found is not None and found.origin == spec.origin


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
