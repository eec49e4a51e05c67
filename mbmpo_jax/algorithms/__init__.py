"""The algorithms by name, each imported on first use.

An algorithm is a folder here. `config.py` has its `Config` and needs no JAX.
`algorithm.py` has `METRICS`, which describes what its phases report, and
`make(env, config, *, mesh=None, check=None)`, which returns a `base.Algorithm`.
"""

import importlib
import inspect
import typing
from typing import Any

from mbmpo_jax import config as config_lib
from mbmpo_jax import validation

if typing.TYPE_CHECKING:
  from mbmpo_jax.algorithms import base
  from mbmpo_jax.envs import base as envs

_PACKAGES = {
  'acktr': 'mbmpo_jax.algorithms.acktr',
  'ddpg': 'mbmpo_jax.algorithms.ddpg',
  'gssm': 'mbmpo_jax.algorithms.gssm',
  'l2a': 'mbmpo_jax.algorithms.l2a',
  'm3po': 'mbmpo_jax.algorithms.m3po',
  'mb_mpc': 'mbmpo_jax.algorithms.mb_mpc',
  'mbmpo': 'mbmpo_jax.algorithms.mbmpo',
  'me_trpo': 'mbmpo_jax.algorithms.me_trpo',
  'pe_ppo': 'mbmpo_jax.algorithms.pe_ppo',
  'pearl': 'mbmpo_jax.algorithms.pearl',
  'ppo': 'mbmpo_jax.algorithms.ppo',
  'sac': 'mbmpo_jax.algorithms.sac',
  'trpo': 'mbmpo_jax.algorithms.trpo',
}


class UnknownAlgorithmError(config_lib.ConfigError):
  """There is no algorithm with this name."""


def names() -> tuple[str, ...]:
  """The names of all algorithms, sorted."""
  return tuple(sorted(_PACKAGES))


def register(name: str, package: str) -> None:
  """Registers the algorithm in a package under a name.

  Args:
    name: the new name.
    package: the package's dotted name.

  Raises:
    ValueError: if the name is taken.
  """
  if name in _PACKAGES:
    raise ValueError(f'algorithm {name!r} is already registered')
  _PACKAGES[name] = package


def config(name: str) -> type[config_lib.Experiment]:
  """The class of an algorithm's configuration; does not import JAX.

  Raises:
    UnknownAlgorithmError: if the name is unknown; the message lists all names.

  Example:
    >>> config('mbmpo')().meta.inner_lr
    0.001
    >>> config('mbpo')
    Traceback (most recent call last):
    mbmpo_jax.algorithms.UnknownAlgorithmError: ... (did you mean 'mbmpo'?)
  """
  return _module(name, 'config').Config


def make(
  name: str,
  env: 'envs.Environment',
  config: config_lib.Experiment,
  **options: Any,
) -> 'base.Algorithm':
  """Builds an algorithm for an environment.

  Args:
    name: one of `names()`.
    env: the real environment.
    config: an instance of `config(name)`.
    **options: `mesh`, devices over which the work is distributed; `check`,
      whether to check `env` against its contract first; and `policy`, a policy
      to use in place of the configuration's. Algorithms that improve a policy
      with a density take a `policy` (mbmpo, me_trpo, trpo, ppo, acktr).

  Raises:
    UnknownAlgorithmError: if the name is unknown.
    config.ConfigError: if a value is not allowed, `config.env` names another
      environment than `env`, or the algorithm takes no policy.
    envs.ContractError: if the environment violates its contract.
  """
  # Imported here, because these modules import JAX.
  from mbmpo_jax import envs
  from mbmpo_jax.algorithms import contract
  from mbmpo_jax.algorithms import notes

  if isinstance(config, config_lib.Experiment):
    envs.check_named(env, config.env)
  build = _module(name, 'algorithm').make
  if options.get('policy') is None:
    options.pop('policy', None)
  elif 'policy' not in inspect.signature(build).parameters:
    raise config_lib.ConfigError(
      f'policy: must be left out, as algorithm {name!r} takes no policy'
    )
  algorithm = build(env, config, **options)
  return notes.attached(contract.counting(algorithm, env), env)


def metrics(name: str) -> 'dict[str, base.Metric]':
  """The metrics that the phases of an algorithm report, by name."""
  return _module(name, 'algorithm').METRICS


def _module(name: str, module: str) -> Any:
  if name not in _PACKAGES:
    raise UnknownAlgorithmError(
      f'algorithm={name!r}: must be one of {", ".join(names())}'
      + validation.nearest(name, names())
    )
  return importlib.import_module(f'{_PACKAGES[name]}.{module}')
