"""XLA's settings with which programs compile in a fraction of the time."""

import jax

# A third of the time to compile; XLA of later versions lacks the second.
FLAGS = {'--xla_cpu_parallel_codegen_split_count': '1'}
if jax.__version_info__ < (0, 11):
  FLAGS['--xla_cpu_use_fusion_emitters'] = 'false'
