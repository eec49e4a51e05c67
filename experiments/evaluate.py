"""Evaluates the policy of a run: returns of new episodes, in one line.

The same as `mbmpo evaluate`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.evaluate', run_name='__main__', alter_sys=True
  )
