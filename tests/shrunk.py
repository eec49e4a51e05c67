"""Runs a program whose configurations are in its code, made small.

  python -m tests.shrunk program.py

What it builds by an algorithm's `make` and trains by `loop.train`,
`external.train` or `logs.train` has the sizes of a smoke test
(`training/launch/tiny.py`).
"""

import functools
import importlib
import runpy
import sys

from mbmpo_jax import algorithms
from mbmpo_jax.training import external
from mbmpo_jax.training import logs
from mbmpo_jax.training import loop
from mbmpo_jax.training.launch import tiny


def shrink() -> None:
  """From here on, in this process."""
  for name in algorithms.names():
    package = algorithms.config(name).__module__.removesuffix('.config')
    module = importlib.import_module(f'{package}.algorithm')
    module.make = _small(module.make)
  train = loop.train

  @functools.wraps(train)
  def train_small(config, workdir, **kwargs):
    return train(tiny.shrink(config), workdir, **kwargs)

  loop.train = train_small
  outside = external.train

  @functools.wraps(outside)
  def train_outside_small(make_env, task, config, workdir, **kwargs):
    return outside(make_env, task, tiny.shrink(config), workdir, **kwargs)

  external.train = train_outside_small
  from_log = logs.train

  @functools.wraps(from_log)
  def train_from_log_small(data, task, config, workdir, **kwargs):
    return from_log(data, task, tiny.shrink(config), workdir, **kwargs)

  logs.train = train_from_log_small


def _small(make):
  @functools.wraps(make)
  def make_small(env, config, **kwargs):
    return make(env, tiny.shrink(config), **kwargs)

  return make_small


if __name__ == '__main__':
  shrink()
  runpy.run_path(sys.argv[1], run_name='__main__')
