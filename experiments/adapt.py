"""Adapts a trained policy in the real world, by steps of policy gradient.

The same as `mbmpo adapt`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.adapt', run_name='__main__', alter_sys=True
  )
