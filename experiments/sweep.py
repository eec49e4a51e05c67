"""Trains with several hyperparameters and seeds, all at once.

The same as `mbmpo sweep`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.sweep', run_name='__main__', alter_sys=True
  )
