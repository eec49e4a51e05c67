"""Trains with several hyperparameter values and seeds in one program.

The same as `mbmpo sweep`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.sweep', run_name='__main__', alter_sys=True
  )
