"""Trains in an environment of Gymnasium, and evaluates there.

The same as `mbmpo external`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.external', run_name='__main__', alter_sys=True
  )
