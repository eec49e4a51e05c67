"""Evaluates a saved policy on the fixed test tasks of its family."""

import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.envs import families
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_state


def on_test_tasks(
  workdir: str | pathlib.Path,
  policy: saved_policy.SavedPolicy,
  key: jax.Array,
  *,
  num_episodes: int,
  context: int = 0,
) -> str:
  """Evaluates a policy on its family's test tasks.

  Args:
    workdir: the run's folder.
    policy: the result of `load_policy` for that folder.
    key: consumed.
    num_episodes: episodes per task.
    context: transitions of each task to which the algorithm first adapts, with
      its last saved state; 0 skips the adaptation.

  Returns:
    One line with the mean and standard deviation over tasks.

  Raises:
    ConfigError: if the run's environment has no tasks, or its algorithm does
      not adapt.
  """
  config = policy.config
  env = policy.make_env()
  if not isinstance(env, envs.Tasked):
    raise config_lib.ConfigError(
      f'--tasks=test: env.name={config.env.name!r} has no tasks: must be a task'
      ' family'
    )
  tasks = env.family.test_tasks()
  outside = families.warning_outside(env.family, tasks)
  if outside is not None:
    warnings.warn(outside, stacklevel=2)
  state, adapt, said = _adaptation(workdir, config.algorithm, context)
  run = evaluate.make_evaluate_tasks(
    env.family,
    policy.policy,
    num_episodes=num_episodes,
    episode_length=config.collect.episode_length,
    tell_task=env.tell_task,
    adapt=adapt,
    num_transitions=context,
  )
  found = jax.tree.map(np.asarray, run(policy.params, tasks, key, state))
  return (
    f'{families.count(tasks)} test tasks{said}, {num_episodes} episodes of'
    f' each: return {np.mean(found.returns):.4g} mean,'
    f' {np.std(found.returns):.4g} std over tasks; length'
    f' {np.mean(found.lengths):.4g}'
  )


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
