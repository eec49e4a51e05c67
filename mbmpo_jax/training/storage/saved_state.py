"""Loads a complete run from its folder: the algorithm and its last state."""

import pathlib
from typing import Any, NamedTuple

import jax

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms import base
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_world


class SavedState(NamedTuple):
  """The result of `load_state`.

  Attributes:
    config: the run's configuration.
    algorithm: the run's algorithm.
    state: the algorithm's last saved state.
    iteration: number of iterations done then.
  """

  config: config_lib.Experiment
  algorithm: base.Algorithm
  state: Any
  iteration: int


def load_state(workdir: str | pathlib.Path) -> SavedState:
  """Loads the state of a run's newest unaltered checkpoint.

  It does not write to the folder.

  Args:
    workdir: a folder of `loop.train`, or of one run of a sweep.

  Raises:
    ConfigError: if the folder has no run, no checkpoint yet, or a state that
      does not fit its algorithm.
    UnknownEnvironmentError: if its environment is not registered.
    CheckpointError: if no checkpoint can be read.
  """
  folder = folder_lib.RunFolder(pathlib.Path(workdir))
  config = folder.read_config()
  found = checkpoint.read_part(folder.checkpoints, ('state',))
  if found is None:
    raise config_lib.ConfigError(f'--workdir={workdir}: has no checkpoint yet')
  iteration, tree = found
  env = saved_world.environment(folder.root, config)
  algorithm = algorithms.make(config.algorithm, env, config, check=False)
  expected = jax.eval_shape(
    algorithm.init, jax.random.PRNGKey(0), base.hyper(config)
  )
  try:
    state = saved_policy.as_in(expected, tree)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--workdir={workdir}: its state does not fit algorithm'
      f' {config.algorithm!r}: {error}'
    ) from error
  return SavedState(config, algorithm, state, iteration)
