"""Draws learning curves of one or many runs.

The same as `mbmpo plot`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.plot', run_name='__main__', alter_sys=True
  )
