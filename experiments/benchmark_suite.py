"""Trains on the public benchmark, and prints our rows beside its own.

The same as `mbmpo benchmark_suite`; `--help` says more.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.benchmark_suite',
    run_name='__main__',
    alter_sys=True,
  )
