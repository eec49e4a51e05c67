"""Reports how accurate the models of a run are.

The same as `mbmpo diagnose`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.diagnose', run_name='__main__', alter_sys=True
  )
