"""Draws learning curves of one or more runs.

The same as `mbmpo plot`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.plot', run_name='__main__', alter_sys=True
  )
