"""Learns a policy from logged data, without access to an environment.

The same as `mbmpo offline`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.offline', run_name='__main__', alter_sys=True
  )
