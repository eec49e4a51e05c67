"""Trains and evaluates in a Gymnasium environment.

The same as `mbmpo external`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.external', run_name='__main__', alter_sys=True
  )
