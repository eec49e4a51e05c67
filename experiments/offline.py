"""Learns a policy from a log, without a world to step.

The same as `mbmpo offline`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.offline', run_name='__main__', alter_sys=True
  )
