"""Trains a policy and keeps everything about it in one folder.

The same as `mbmpo train`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.train', run_name='__main__', alter_sys=True
  )
