"""Adds policies of runs to the zoo, and replays policies of the zoo.

The same as `mbmpo zoo`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.zoo', run_name='__main__', alter_sys=True
  )
