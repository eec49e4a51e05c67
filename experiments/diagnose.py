"""Reports how far the models of a run can be trusted.

The same as `mbmpo diagnose`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.diagnose', run_name='__main__', alter_sys=True
  )
