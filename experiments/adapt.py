"""Adapts a trained policy in the real environment by policy-gradient steps.

The same as `mbmpo adapt`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.adapt', run_name='__main__', alter_sys=True
  )
