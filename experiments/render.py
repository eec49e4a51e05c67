"""Writes a page that plays the policy of a run in any browser.

The same as `mbmpo render`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.render', run_name='__main__', alter_sys=True
  )
