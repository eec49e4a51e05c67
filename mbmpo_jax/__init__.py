"""Model-based meta-policy optimisation in JAX.

The modules a user needs, by their short names:

  import mbmpo_jax as mb
  config = mb.algorithms.config('mbmpo')()
  algorithm = mb.algorithms.make('mbmpo', mb.envs.make('half_cheetah'), config)

Each module is imported on first use. A command with a mistyped flag therefore
fails at once, without importing JAX.
"""

import importlib
import typing

__version__ = '0.1.0'

_MODULES = {
  'algorithms': 'mbmpo_jax.algorithms',
  'buffer': 'mbmpo_jax.rollouts.buffer',
  'cache': 'mbmpo_jax.training.launch.cache',
  'config': 'mbmpo_jax.config',
  'distributions': 'mbmpo_jax.policies.distributions',
  'ensemble': 'mbmpo_jax.models.ensemble',
  'envs': 'mbmpo_jax.envs',
  'fit': 'mbmpo_jax.models.fit',
  'gaussian': 'mbmpo_jax.policies.gaussian',
  'imagined': 'mbmpo_jax.rollouts.imagined',
  'loop': 'mbmpo_jax.training.loop',
  'maml': 'mbmpo_jax.objectives.maml',
  'normalizer': 'mbmpo_jax.models.normalizer',
  'real': 'mbmpo_jax.rollouts.real',
  'returns': 'mbmpo_jax.objectives.returns',
  'saved_policy': 'mbmpo_jax.training.storage.saved_policy',
  'trpo': 'mbmpo_jax.optim.trpo',
  'types': 'mbmpo_jax.types',
}

__all__ = ['__version__', *_MODULES]


def __getattr__(name: str) -> typing.Any:
  """Imports a public module on first use.

  Raises:
    AttributeError: if `name` is not a public module.
  """
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return importlib.import_module(_MODULES[name])
