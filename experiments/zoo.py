"""Keeps policies of runs in the zoo, and plays those that are there.

The same as `mbmpo zoo`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.zoo', run_name='__main__', alter_sys=True
  )
