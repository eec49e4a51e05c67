"""Trains on the public benchmark and prints the results beside published ones.

The same as `mbmpo benchmark_suite`; see `--help`.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module(
    'mbmpo_jax.training.commands.benchmark_suite',
    run_name='__main__',
    alter_sys=True,
  )
