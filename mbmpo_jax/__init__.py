"""Model-based meta-policy optimisation in JAX.

The modules a user needs, by their short names:

  import mbmpo_jax as mb
  algorithm = mb.mbmpo.make(mb.envs.make('point'), mb.config.Config())

They are imported on first use: a mistyped flag need not wait for JAX.
"""

import importlib
import typing

__version__ = '0.1.0'

_MODULES = {
  'buffer': 'mbmpo_jax.rollouts.buffer',
  'collect': 'mbmpo_jax.rollouts.collect',
  'config': 'mbmpo_jax.config',
  'ensemble': 'mbmpo_jax.models.ensemble',
  'envs': 'mbmpo_jax.envs',
  'fit': 'mbmpo_jax.models.fit',
  'gaussian': 'mbmpo_jax.policies.gaussian',
  'imagine': 'mbmpo_jax.rollouts.imagine',
  'maml': 'mbmpo_jax.optim.maml',
  'mbmpo': 'mbmpo_jax.algorithms.mbmpo',
  'normalizer': 'mbmpo_jax.models.normalizer',
  'returns': 'mbmpo_jax.optim.returns',
  'saved_policy': 'mbmpo_jax.training.storage.saved_policy',
  'trpo': 'mbmpo_jax.optim.trpo',
  'types': 'mbmpo_jax.types',
}

__all__ = ['__version__', *_MODULES]


def __getattr__(name: str) -> typing.Any:
  """Imports a public module on first use."""
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return importlib.import_module(_MODULES[name])
