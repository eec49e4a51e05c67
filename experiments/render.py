"""Plays the policy of a run in a page that opens in any browser.

The same as `mbmpo render`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.render', run_name='__main__', alter_sys=True
  )
