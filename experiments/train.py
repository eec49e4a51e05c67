"""Trains a policy and writes all files of the run into one folder.

The same as `mbmpo train`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.train', run_name='__main__', alter_sys=True
  )
