"""Starts a run from a checkpoint of another run, under other settings.

The new run continues the state, the counters and the metrics of the other one.
Only the hyperparameters are its own. Runs that branch off one checkpoint differ
in what was changed, and in nothing before it.
"""

import json
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import saved_policy

# Folded into the key of a branch with another seed.
_OTHER_SEED = 0x6272616E


class Branch(NamedTuple):
  """The checkpoint from which a run begins.

  Attributes:
    source: the folder of the other run.
    config: the other run's configuration.
    iteration: number of its iterations done.
    tree: the content of the checkpoint, on the host.
  """

  source: pathlib.Path
  config: config_lib.Experiment
  iteration: int
  tree: Any


def load(source: str | pathlib.Path, iteration: int | None = None) -> Branch:
  """Reads a checkpoint of a run; nothing is written to its folder.

  Args:
    source: the run's folder.
    iteration: the checkpoint's iteration; by default the newest.

  Raises:
    ConfigError: if there is no run, or no such checkpoint.
    CheckpointError: if it cannot be read.
  """
  root = pathlib.Path(source)
  try:
    folder = folder_lib.RunFolder(root)
    config = folder.read_config()
  except config_lib.ConfigError as error:
    said = str(error).replace('--workdir=', '--branch_from=', 1)
    raise config_lib.ConfigError(said) from None
  saved = checkpoint.steps(folder.checkpoints)
  if not saved:
    raise config_lib.ConfigError(f'--branch_from={source}: has no checkpoint')
  if iteration is not None and iteration not in saved:
    raise config_lib.ConfigError(
      f'--branch_at={iteration}: must be an iteration of which {source} has a'
      f' checkpoint: {", ".join(map(str, saved))}'
    )
  found = checkpoint.read_part(folder.checkpoints, (), only=iteration)
  assert found is not None
  return Branch(root, config, *found)


def begin(
  branch: Branch,
  saved: iteration_lib.Saved,
  config: config_lib.Experiment,
  sharding: jax.sharding.Sharding,
) -> iteration_lib.Saved:
  """Returns the state of a new run at the branch.

  Its hyperparameters are those of `saved`. If the seed is another than that of
  the other run, so are the random numbers. If the environment or the length of
  episodes is another, the best policy is that of `saved`, because returns
  cannot be compared.

  Args:
    branch: the other run's checkpoint.
    saved: the initial state of the new run; it may be traced.
    config: of the new run.
    sharding: of the result.

  Raises:
    ConfigError: if the algorithm is another, the state has another structure
      under the new configuration, or no iteration is left to do.
  """
  if config.algorithm != branch.config.algorithm:
    raise config_lib.ConfigError(
      f'--branch_from={branch.source}: is a run of {branch.config.algorithm!r}:'
      f' must be a run of {config.algorithm!r}'
    )
  expected = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), saved
  )
  try:
    state = saved_policy.as_in(expected.state, branch.tree['state'])
    best = saved_policy.as_in(expected.policy, branch.tree['best_policy'])
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--branch_from={branch.source}: its state does not fit the new'
      f' configuration: {error}'
    ) from error
  if branch.iteration >= config.run.num_iterations:
    raise config_lib.ConfigError(
      f'run.num_iterations={config.run.num_iterations}: must be >'
      f' {branch.iteration}, the iterations that --branch_from={branch.source}'
      ' has done'
    )
  counters = state.counters
  if config.seed != branch.config.seed:
    # The run splits its key, and the results of a split are those of folding in
    # small numbers; so a seed is not folded into the key itself.
    key = jax.random.fold_in(counters.key, _OTHER_SEED)
    key = jax.random.fold_in(key, config.seed)
    counters = counters._replace(key=key)
  made = saved._replace(
    state=state._replace(counters=counters, hyper=saved.state.hyper)
  )
  policy = saved_policy.as_in(expected.policy, branch.tree['policy'])
  made = made._replace(policy=policy)
  if _episodes(config) == _episodes(branch.config):
    known = {'best_policy': best}
    for name in ('best_return', 'best_error', 'best_iteration'):
      value = branch.tree.get(name, getattr(saved, name))
      known[name] = jnp.asarray(value, getattr(saved, name).dtype)
    made = made._replace(**known)
  return jax.device_put(made, sharding)


def _episodes(config: config_lib.Experiment) -> tuple[Any, int]:
  """What returns depend on, besides the policy."""
  return config.env, config.collect.episode_length


def write(branch: Branch, folder: folder_lib.RunFolder) -> None:
  """Writes what a new run has of the other one: metrics and where it began.

  Args:
    branch: the other run's checkpoint.
    folder: of the new run; it exists, and has no checkpoint.

  Raises:
    WriteError: if the file system does not allow it.
  """
  metrics = folder_lib.RunFolder(branch.source).metrics
  begun = {'run': str(branch.source), 'iteration': branch.iteration}
  with atomic.writing(folder.root):
    atomic.write_text(folder.branch, json.dumps(begun, indent=2) + '\n')
    if metrics.is_file():
      # Rows of later iterations are dropped when the metrics are continued.
      shutil.copyfile(metrics, folder.metrics)
