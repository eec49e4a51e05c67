"""Transitions of a family's test tasks, the same for all runs of a figure.

Half are from random actions, half from the trained policy of one run. They are
collected once and saved in a file.
"""

import hashlib
import io
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.envs import families
from mbmpo_jax.rollouts import real
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import saved_state

# A key that does not depend on the runs' seeds.
_SEED = 26
_STORED = ('obs', 'action', 'next_obs')
# The array that says which run and sizes a file is of.
_SOURCE = 'source'


class Pools(NamedTuple):
  """Transitions of M test tasks."""

  context: types.Transition  # leaves [M, C, ...], in random order
  targets: types.Transition  # leaves [M, S, ...]

  @property
  def digest(self) -> str:
    """A hash of the transitions."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(self):
      found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]

  @property
  def num_tasks(self) -> int:
    """The number M of tasks."""
    return int(self.targets.obs.shape[0])


class Sizes(NamedTuple):
  """Sizes of the measurements.

  Attributes:
    context: transitions of a task to adapt to.
    targets: transitions of a task to predict.
    episodes: episodes per task.
    tasks: the largest number of tasks; `None` for as many as the family has.
    standardized: whether errors are in units of the standard deviation of
      observation changes.
    seed: of the tasks, if they are drawn anew from the distribution of the test
      tasks; `None` for the family's test tasks.
  """

  context: int
  targets: int = 200
  episodes: int = 50
  tasks: int | None = None
  standardized: bool = False
  seed: int | None = None


def test_tasks(family: families.Family, sizes: Sizes) -> families.Task:
  """Returns the tasks, leaves [M, ...]."""
  if sizes.seed is None:
    tasks = family.test_tasks()
  else:
    keys = jax.random.split(
      jax.random.PRNGKey(sizes.seed), family.num_test_tasks
    )
    tasks = jax.vmap(lambda key: family.sample_task(key, 'test'))(keys)
  return jax.tree.map(lambda x: x[: sizes.tasks], tasks)


def make_pools(
  run: saved_state.SavedState, sizes: Sizes, key: jax.Array
) -> Pools:
  """Collects transitions of every test task, half with the run's policy.

  The policy first adapts to random transitions, as many as in a context.

  Args:
    run: the run of the policy.
    sizes: sizes of the pools.
    key: consumed.
  """
  family = envs.family_of(env_of(run), run.config.algorithm)
  algorithm: Any = run.algorithm
  length = run.config.collect.episode_length
  params = algorithm.policy_params(run.state)

  def of_task(task: families.Task, key: jax.Array) -> Pools:
    env = envs.fixed(family, task)
    first, *keys, adapt_key, order_key = jax.random.split(key, 7)

    def rows(
      key: jax.Array, num: int, random: bool, params: Any, context: Any
    ) -> types.Transition:
      trajectory, _ = real.rollout(
        env,
        algorithm.policy,
        params,
        key,
        num_envs=1,
        horizon=num,
        context=context,
        random_actions=random,
        time_limit=length,
      )
      flat, _, _ = real.to_transitions(trajectory, jnp.zeros((), jnp.int32))
      return flat._replace(extras=())

    adapted: Any = (params, ())
    if algorithm.adapt is not None:
      shown, _ = real.rollout(
        env,
        algorithm.policy,
        params,
        first,
        num_envs=1,
        horizon=sizes.context,
        random_actions=True,
        time_limit=length,
      )
      adapted = algorithm.adapt(run.state, shown, adapt_key)

    def both(first: jax.Array, second: jax.Array, num: int) -> Any:
      half = num // 2
      parts = (
        rows(first, num - half, True, *adapted),
        rows(second, half, False, *adapted),
      )
      return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

    context = both(keys[0], keys[1], sizes.context)
    order = jax.random.permutation(order_key, sizes.context)
    context = jax.tree.map(lambda x: x[order], context)
    return Pools(context, both(keys[2], keys[3], sizes.targets))

  tasks = test_tasks(family, sizes)
  keys = jax.random.split(key, families.count(tasks))
  made = jax.jit(lambda: jax.lax.map(lambda x: of_task(*x), (tasks, keys)))()
  return jax.tree.map(np.asarray, made)


def kept_pools(path: pathlib.Path, folder: pathlib.Path, sizes: Sizes) -> Pools:
  """Reads saved transitions, or collects and saves them.

  A file is replaced if it is of another run, checkpoint or sizes.

  Args:
    path: the file, `.npz`.
    folder: the run whose policy collects half of the transitions.
    sizes: sizes of the pools.

  Raises:
    UserError: as `saved_state.load_state` does.
  """
  names = [f'{part}.{field}' for part in Pools._fields for field in _STORED]
  newest = max(checkpoint.steps(folder / 'checkpoints'), default=None)
  of = [folder.parent.name, folder.name, newest, *sizes]
  source = np.asarray(json.dumps(of))
  if path.is_file():
    with np.load(path) as file:
      values = [file[name] for name in names]
      same = _SOURCE in file and file[_SOURCE] == source
    if same:
      half = len(_STORED)
      return Pools(_transitions(values[:half]), _transitions(values[half:]))
  run = saved_state.load_state(folder)
  made = make_pools(run, sizes, jax.random.PRNGKey(_SEED))
  found = [getattr(part, field) for part in made for field in _STORED]
  arrays: dict[str, Any] = dict(zip(names, found, strict=True))
  file = io.BytesIO()
  np.savez(file, **(arrays | {_SOURCE: source}))
  atomic.write_output(path, file.getvalue())
  return Pools(*(_transitions([getattr(p, f) for f in _STORED]) for p in made))


def _transitions(values: list[Any]) -> types.Transition:
  """Builds transitions from the saved fields, and zeros for the others."""
  obs, action, next_obs = values
  blank: Any = np.zeros(obs.shape[:-1], obs.dtype)
  return types.Transition(
    obs, action, blank, next_obs, blank, blank, blank, blank
  )


def env_of(run: saved_state.SavedState) -> envs.Environment:
  """Returns the environment of a run, which draws a task in every episode."""
  return envs.make(run.config.env.name, run.config.env.variant)
