"""Registry of the real environments, and the interface that they implement."""

import contextlib
import importlib.machinery
import pathlib
import sys
import weakref
from collections.abc import Callable
from typing import Any

# First, because it silences messages printed when the simulators are imported.
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

# The factories of this package and those that users register.
_FACTORIES: dict[str, _Factory] = dict(worlds.FACTORIES)
# The factories of this package only, and for each environment that `make` built
# with one of them, its attributes at that time.
_OWN = frozenset(_FACTORIES.values())
_MADE: weakref.WeakKeyDictionary[base.Environment, dict[str, Any]] = (
  weakref.WeakKeyDictionary()
)
# The name and the variant with which `make` built an environment.
_NAMED: weakref.WeakKeyDictionary[base.Environment, tuple[str, str | None]] = (
  weakref.WeakKeyDictionary()
)


class UnknownEnvironmentError(config.ConfigError):
  """No environment has this name, or the environment lacks this variant."""


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

  For a task family it returns a `Tasked` environment; `split`, `schedule`,
  `switch_period` and `tell_task` are allowed for task families only.

  Args:
    name: one of `names()`.
    variant: one of `variants(name)`; the first by default.
    split: the set from which tasks are drawn, `train` (the default) or `test`.
    schedule: when the task changes, `episode` or `switch`; by default the
      family's schedule.
    switch_period: steps between task changes; by default the family's period.
    tell_task: whether the task is appended to the observation.

  Raises:
    UnknownEnvironmentError: if the name or the variant does not exist; the
      message lists those that do.
    TaskError: if a task option is not allowed, or the environment has no tasks.

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
  with contextlib.suppress(TypeError):  # A user's class may not be hashable.
    _NAMED[env] = name, variant
  return env


def family(name: str, variant: str | None = None) -> families.Family:
  """Returns the task family registered as `name`.

  Args:
    name: the name of a task family, one of `names()`.
    variant: one of `variants(name)`; the first by default.

  Raises:
    UnknownEnvironmentError: if the name or the variant does not exist.
    TaskError: if `name` is an environment without tasks.

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
  """Builds the environment of a configuration, simulated by MJX.

  Args:
    section: `config.env`.
    episode_length: steps per episode. If tasks switch within an episode, the
      switch period must be shorter; by default it is compared with the
      environment's time limit.

  Raises:
    UnknownEnvironmentError: if the name or the variant does not exist.
    config.ConfigError: if the task options do not fit the environment.
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
      f"env.physics={section.physics!r}: must be 'mjx' for"
      f' env.name={section.name!r}, a task family'
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
      " an episode, unless env.tasks='episode'"
    )
  return env


def switches(section: config.Env) -> bool:
  """Returns whether tasks change within an episode, without building anything.

  Building may start JAX, after which its devices cannot be chosen. The default
  schedule is the attribute of the registered class; a function without one
  counts as `episode`.

  Args:
    section: `config.env`; the environment need not exist.
  """
  factory: Any = _FACTORIES.get(section.name)
  if isinstance(factory, worlds.Variants):
    known = factory.variants
    factory = known.get(section.variant or next(iter(known)))
  default = getattr(factory, 'schedule', 'episode')
  return (section.tasks or default) == 'switch'


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
    factory: builds an environment or a task family. A factory with variants has
      an attribute `variants`, a mapping whose keys are their names; `make`
      passes it the variant's name if the caller gives one.

  Raises:
    ValueError: if the name is taken.
  """
  if name in _FACTORIES:
    raise ValueError(f'environment {name!r} is already registered')
  _FACTORIES[name] = factory


def is_own(env: base.Environment) -> bool:
  """Returns whether `make` built `env` from this package and it is unchanged.

  The tests of this package cover such environments. They do not cover a
  subclass, an environment with a replaced attribute, or a copy, such as the
  results of `on_warp` and `physics.with_physics`.
  """
  if env not in _MADE:
    return False
  then, now = _MADE[env], vars(env)
  return then.keys() == now.keys() and all(now[k] is then[k] for k in then)


def check_named(env: base.Environment, section: config.Env) -> None:
  """Checks that the environment's name in a configuration is that of `env`.

  A saved run is loaded with the environment of that name. An environment that
  `make` did not build and whose class is not registered may have any name.

  Raises:
    config.ConfigError: naming the configured and the actual environment.
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
      f'env.name={section.name!r}: must be {built!r}, the name of the given'
      ' environment'
    )
  if variant == section.variant:
    return
  ours, theirs = (
    v if v is not None else next(iter(variants(n)), None) for n, v in said
  )
  if ours != theirs:
    raise config.ConfigError(
      f'env.variant={section.variant!r}: must be {variant!r}, the variant of'
      ' the given environment'
    )


def origin(name: str) -> tuple[str, str] | None:
  """Returns where to import an environment from that a user registered.

  Args:
    name: a registered name.

  Returns:
    The argument for `--import`, which is the name of a module or the path of a
    file, and the name of the factory in it. `None` for an environment of this
    package.
  """
  factory = _FACTORIES.get(name)
  if factory is None or factory in _OWN:
    return None
  kind = factory if hasattr(factory, '__qualname__') else type(factory)
  module = sys.modules.get(kind.__module__)
  file = getattr(module, '__file__', None)
  spec = getattr(module, '__spec__', None)
  # Return the module's name only if the import system can find it again.
  if file and (kind.__module__ == '__main__' or not _found(spec)):
    return str(pathlib.Path(file).resolve()), kind.__qualname__
  return kind.__module__, kind.__qualname__


def _found(spec: Any) -> bool:
  """Whether the import system finds the module by name in any directory."""
  if spec is None:
    return False
  if '.' in spec.name:  # A part of a package cannot be loaded as a file.
    return True
  main = getattr(sys.modules['__main__'], '__file__', None) or ''
  here = {pathlib.Path.cwd(), pathlib.Path(main).resolve().parent}
  path = [p for p in sys.path if pathlib.Path(p).resolve() not in here]
  # importlib.util would find the module in `sys.modules`.
  found = importlib.machinery.PathFinder.find_spec(spec.name, path)
  return found is not None and found.origin == spec.origin


def names() -> tuple[str, ...]:
  """The registered names, sorted."""
  return tuple(sorted(_FACTORIES))


def variants(name: str) -> tuple[str, ...]:
  """Returns the variants of an environment, the default first; often none.

  Raises:
    UnknownEnvironmentError: if there is no such environment.
  """
  if name not in _FACTORIES:
    raise UnknownEnvironmentError(
      f'env.name={name!r}: must be one of {", ".join(names())}'
      + validation.nearest(name, names())
    )
  return tuple(getattr(_FACTORIES[name], 'variants', ()))
