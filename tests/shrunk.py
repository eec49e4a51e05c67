"""Runs a program whose configurations are in its code, made small.

  python -m tests.shrunk program.py

What it builds by `mbmpo.make` and trains by `loop.train` has the sizes of a
smoke test (`training/launch/tiny.py`).
"""

import functools
import runpy
import sys

from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.training import loop
from mbmpo_jax.training.launch import tiny


def shrink() -> None:
  """From here on, in this process."""
  make, train = mbmpo.make, loop.train

  @functools.wraps(make)
  def make_small(env, config, **kwargs):
    return make(env, tiny.shrink(config), **kwargs)

  @functools.wraps(train)
  def train_small(config, workdir, **kwargs):
    return train(tiny.shrink(config), workdir, **kwargs)

  mbmpo.make, loop.train = make_small, train_small


if __name__ == '__main__':
  shrink()
  runpy.run_path(sys.argv[1], run_name='__main__')
