"""Evaluates a saved policy on tasks of its family, each held fixed."""

import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.envs import families
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_state

TEST = 'test'


def on_tasks(
  workdir: str | pathlib.Path,
  policy: saved_policy.SavedPolicy,
  key: jax.Array,
  *,
  num_episodes: int,
  given: str = TEST,
  context: int = 0,
  greedy: bool = False,
) -> str:
  """Evaluates a policy on its family's test tasks, or on given ones.

  Tasks outside the trained range give a warning.

  Args:
    workdir: the run's folder.
    policy: the result of `load_policy` for that folder.
    key: consumed.
    num_episodes: episodes per task.
    given: `test`, or the numbers of tasks, such as '1.5,0.8;1,1' for two tasks
      of two numbers, in the order of `Family.vector`.
    context: transitions of each task to which the algorithm first adapts, with
      its last saved state; 0 skips the adaptation.
    greedy: whether the policy acts without noise.

  Returns:
    One line with the mean and standard deviation over tasks.

  Raises:
    ConfigError: if the run's environment has no tasks, its algorithm does not
      adapt, or the numbers are not those of tasks.
  """
  config = policy.config
  env = policy.make_env()
  if not isinstance(env, envs.Tasked):
    raise config_lib.ConfigError(
      f'--tasks={given}: env.name={config.env.name!r} has no tasks: must be a'
      ' task family'
    )
  tasks = _tasks(env.family, given)
  outside = families.warning_outside(env.family, tasks)
  if outside is not None:
    warnings.warn(outside, stacklevel=2)
  state, adapt, said = _adaptation(workdir, config.algorithm, context)
  run = evaluate.make_evaluate_tasks(
    env.family,
    policy.policy,
    num_episodes=num_episodes,
    episode_length=config.collect.episode_length,
    greedy=greedy,
    tell_task=env.tell_task,
    adapt=adapt,
    num_transitions=context,
  )
  found = jax.tree.map(np.asarray, run(policy.params, tasks, key, state))
  kind = f'{TEST} tasks' if given == TEST else f'tasks ({given})'
  return (
    f'{families.count(tasks)} {kind}{said}, {num_episodes} episodes of'
    f' each: return {np.mean(found.returns):.4g} mean,'
    f' {np.std(found.returns):.4g} std over tasks; length'
    f' {np.mean(found.lengths):.4g}'
  )


def _tasks(family: families.Family, given: str) -> families.Task:
  """The test tasks, or those with the given numbers, leaves [M, ...]."""
  if given == TEST:
    return family.test_tasks()
  size = family.task_size
  try:
    rows = [[float(x) for x in task.split(',')] for task in given.split(';')]
  except ValueError:
    rows = []
  if not rows or any(
    len(row) != size or not np.all(np.isfinite(row)) for row in rows
  ):
    raise config_lib.ConfigError(
      f"--tasks={given}: must be 'test', or tasks of {size} numbers each, as in"
      f' {",".join(["1"] * size)}'
    )
  # Masses and factors are positive: so are the bounds of their range.
  least, _ = map(family.vector, family.trained_range())
  for row in rows:
    for number, low in zip(row, np.asarray(least).tolist(), strict=True):
      if number <= 0 < low:
        raise config_lib.ConfigError(
          f'--tasks={given}: {number:g} must be > 0, like all numbers from'
          ' which training draws it'
        )
  return jax.vmap(family.from_vector)(jnp.asarray(rows, float))


def _adaptation(
  workdir: str | pathlib.Path, algorithm: str, context: int
) -> tuple[Any, Callable[..., Any] | None, str]:
  """Returns the last state, the adaptation function and its description."""
  if not context:
    return (), None, ''
  saved = saved_state.load_state(workdir)
  if saved.algorithm.adapt is None:
    raise config_lib.ConfigError(
      f'--context={context}: must be left out: algorithm {algorithm!r} has no'
      ' adaptation'
    )
  said = f', adapted to {context} transitions of each'
  return saved.state, saved.algorithm.adapt, said
