"""The ensemble's functions, compiled: eager, each operation is a program."""

import jax

from mbmpo_jax.models import ensemble

_HEADS = ('predict_reward', 'predict_done')

init = jax.jit(
  ensemble.init,
  static_argnames=('input_size', 'output_size', 'hidden_sizes', 'num_models'),
)
fold = jax.jit(ensemble.fold, static_argnames=_HEADS)
predict = jax.jit(ensemble.predict, static_argnames=('activation', *_HEADS))
