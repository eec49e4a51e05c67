"""What a run knows of tasks that it has not seen, given a few transitions.

In each test task of a world's family, of GSSM's saved runs and the others that
its paper compares (Wang & van Hoof 2022, tables 1, 2 and 6):

  error(C)   mean_n mean_o ((s'_n - E_k f(s_n, a_n, z_k(C)))_o / scale_o)^2,
             with contexts C of that task, of another one, and of fewer points
  return     of episodes after the algorithm has adapted to transitions
  seconds    that this adaptation takes, once it is compiled

The transitions n and the contexts are the same for all runs (`make_pools`):
half of random actions, half of one trained policy. So errors of two models are
compared task by task.
"""

import hashlib
import json
import pathlib
import statistics
import time
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.envs import families
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate as surrogate_lib
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import saved_state

_FILE = 'unseen_tasks.json'
# Draws of z over which a prediction is the mean (equation 11).
_DRAWS = 5
_REPEATS = 20
# Keys of their own, whatever the runs' seeds are.
_POOLS_SEED, _SEED = 26, 27


class Pools(NamedTuple):
  """Transitions of M test tasks."""

  context: types.Transition  # leaves [M, C, ...], in random order
  targets: types.Transition  # leaves [M, S, ...]

  @property
  def digest(self) -> str:
    """Tells one from another."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(self):
      found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]


class Sizes(NamedTuple):
  """How much is measured.

  Attributes:
    context: transitions of a task that are told.
    targets: transitions of a task that are predicted.
    episodes: of each task.
    tasks: at most so many; `None` is all of the family's.
    standardized: whether errors are in units of the changes' deviations.
  """

  context: int
  targets: int = 200
  episodes: int = 50
  tasks: int | None = None
  standardized: bool = False


class Found(NamedTuple):
  """Of one run; lists have a number per test task.

  Attributes:
    returns: of an episode, mean.
    own: error given the task's transitions; none where there is no surrogate.
    other: error given those of another task.
    by_size: error by the number of points of the context.
    seconds: of an adaptation; NaN where nothing adapts before an episode.
  """

  returns: list[float]
  own: list[float]
  other: list[float]
  by_size: dict[int, list[float]]
  seconds: float


def test_tasks(family: families.Family, sizes: Sizes) -> families.Task:
  """The family's, or the first of them, leaves [M, ...]."""
  return jax.tree.map(lambda x: x[: sizes.tasks], family.test_tasks())


def make_pools(
  run: saved_state.SavedState, sizes: Sizes, key: jax.Array
) -> Pools:
  """Transitions of every test task, half of them of the run's policy.

  The policy has adapted to as many random transitions as a context has.

  Args:
    run: whose policy.
    sizes: of the pools.
    key: consumed.
  """
  family = envs.family_of(_env(run), run.config.algorithm)
  algorithm: Any = run.algorithm
  length = run.config.collect.episode_length
  params = algorithm.policy_params(run.state)

  def of_task(task: families.Task, key: jax.Array) -> Pools:
    env = envs.fixed(family, task)
    first, *keys, adapt_key, order_key = jax.random.split(key, 7)

    def rows(
      key: jax.Array, num: int, random: bool, params: Any, told: Any
    ) -> types.Transition:
      trajectory, _ = real.rollout(
        env,
        algorithm.policy,
        params,
        key,
        num_envs=1,
        horizon=num,
        context=told,
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


def errors(
  run: saved_state.SavedState,
  pools: Pools,
  key: jax.Array,
  *,
  points: jax.Array | int,
  shift: jax.Array | int = 0,
  scale: jax.Array | float = 1.0,
) -> jax.Array:
  """The model's error in every task, [M].

  Args:
    run: of `gssm`, with any of its models.
    pools: of the test tasks.
    key: consumed.
    points: of the context; the first of the pool's.
    shift: contexts are of the task so many places later; 0 is the task's own.
    scale: divides errors, [O] or a number.
  """
  config: Any = run.config
  env = _env(run)
  surrogate = surrogate_lib.make(env, config.model)
  model = jax.tree.map(lambda x: jnp.asarray(x[0]), run.state.model)
  chex.assert_rank([pools.targets.obs, pools.context.obs], [3, 3])
  room = pools.context.obs.shape[1]
  told = jax.tree.map(lambda x: jnp.roll(x, -shift, 0), pools.context)
  mask = (jnp.arange(room) < points).astype(float)
  scales = jnp.broadcast_to(jnp.asarray(scale, float), (env.observation_size,))

  def of_task(
    context: types.Transition, targets: types.Transition, key: jax.Array
  ) -> jax.Array:
    known = sets.of_transitions(
      context, mask, model_input=env.model_input, target=config.model.target
    )

    def draw(key: jax.Array) -> jax.Array:
      start_key, key = jax.random.split(key)
      num = targets.obs.shape[0]
      carry = surrogate.dynamics.start(model, start_key, sets.live(known), num)
      _, found = surrogate.dynamics.predict(
        model, carry, targets.obs, targets.action, key
      )
      return found.next_obs

    predicted = jnp.mean(jax.vmap(draw)(jax.random.split(key, _DRAWS)), 0)
    wrong = (predicted - targets.next_obs) / scales[None]
    return jnp.mean(jnp.square(wrong))

  keys = jax.random.split(key, room_of(pools))
  return jax.lax.map(lambda x: of_task(*x), (told, pools.targets, keys))


def room_of(pools: Pools) -> int:
  """Test tasks M of the pools."""
  return pools.targets.obs.shape[0]


def context_sizes(most: int) -> tuple[int, ...]:
  """Sizes of contexts whose errors are drawn: 1, 2, 5, 10, ... and the most.

  Example:
    >>> context_sizes(50)
    (1, 2, 5, 10, 20, 50)
  """
  steps = [m * 10**e for e in range(6) for m in (1, 2, 5)]
  return (*(size for size in steps if size < most), most)


def measure(
  run: saved_state.SavedState, pools: Pools | None, sizes: Sizes
) -> Found:
  """All of it, of a run; `pools` are `None` where it has no surrogate."""
  family = envs.family_of(_env(run), run.config.algorithm)
  algorithm: Any = run.algorithm
  length = run.config.collect.episode_length
  # One task after another: test tasks, then draws of z.
  play_key, error_key, adapt_key = jax.random.split(
    jax.random.PRNGKey(_SEED), 3
  )
  play = evaluate.make_evaluate_tasks(
    family,
    algorithm.policy,
    num_episodes=sizes.episodes,
    episode_length=length,
    adapt=algorithm.adapt,
    num_transitions=sizes.context,
  )
  params = algorithm.policy_params(run.state)
  tasks = test_tasks(family, sizes)
  returns = play(params, tasks, play_key, run.state).returns
  own: list[float] = []
  other: list[float] = []
  by_size: dict[int, list[float]] = {}
  if pools is not None:
    scale: Any = 1.0
    if sizes.standardized:
      change = pools.targets.next_obs - pools.targets.obs
      scale = jnp.asarray(np.std(change, (0, 1))) + 1e-8

    @jax.jit
    def of(points: jax.Array, shift: jax.Array) -> jax.Array:
      return errors(
        run, pools, error_key, points=points, shift=shift, scale=scale
      )

    for size in context_sizes(sizes.context):
      by_size[size] = np.asarray(of(size, 0)).tolist()
    own = by_size[sizes.context]
    # Test tasks are in random order, or a grid: half way is another one.
    other = np.asarray(of(sizes.context, room_of(pools) // 2)).tolist()
  seconds = float('nan')
  if algorithm.adapt is not None:
    seconds = _seconds(run, family, tasks, sizes, adapt_key)
  return Found(np.asarray(returns).tolist(), own, other, by_size, seconds)


def kept(folder: pathlib.Path, pools: Pools | None, sizes: Sizes) -> Found:
  """What was measured of the run in a folder; measured now if it was not.

  It is kept there, for as long as the run, the sizes and the pools are these.

  Args:
    folder: of a run.
    pools: as for `measure`.
    sizes: as for `measure`.

  Raises:
    UserError: as `saved_state.load_state` does.
  """
  path = folder / _FILE
  newest = max(checkpoint.steps(folder / 'checkpoints'), default=None)
  of = {'sizes': list(sizes), 'pools': pools.digest if pools else ''}
  if path.is_file():
    tree = json.loads(path.read_text(encoding='utf-8'))
    if tree['of'] == of and newest in (None, tree['iteration']):
      by_size = {int(k): v for k, v in tree.pop('by_size').items()}
      seconds = tree['seconds']
      return Found(
        tree['returns'],
        tree['own'],
        tree['other'],
        by_size,
        float('nan') if seconds is None else seconds,
      )
  run = saved_state.load_state(folder)
  found = measure(run, pools, sizes)
  tree = {'iteration': run.iteration, 'of': of, **found._asdict()}
  if np.isnan(found.seconds):
    tree['seconds'] = None
  folder_lib.write_output(path, (json.dumps(tree) + '\n').encode())
  return found


def kept_pools(path: pathlib.Path, folder: pathlib.Path, sizes: Sizes) -> Pools:
  """The transitions that a file holds; made of the run in a folder if none.

  Args:
    path: of the file, `.npz`.
    folder: of the run whose policy is one of the two.
    sizes: of the pools; a file with others is made anew.

  Raises:
    UserError: as `saved_state.load_state` does.
  """
  names = [f'{part}.{field}' for part in Pools._fields for field in _STORED]
  if path.is_file():
    with np.load(path) as file:
      values = [file[name] for name in names]
    half = len(_STORED)
    found = Pools(_transitions(values[:half]), _transitions(values[half:]))
    shape = found.context.obs.shape[1], found.targets.obs.shape[1]
    if shape == (sizes.context, sizes.targets):
      return found
  run = saved_state.load_state(folder)
  made = make_pools(run, sizes, jax.random.PRNGKey(_POOLS_SEED))
  arrays = [getattr(part, field) for part in made for field in _STORED]
  with folder_lib.writing(path.parent), open(path, 'wb') as file:
    np.savez(file, **dict(zip(names, arrays, strict=True)))
  return Pools(*(_transitions([getattr(p, f) for f in _STORED]) for p in made))


_STORED = ('obs', 'action', 'next_obs')


def _transitions(values: list[Any]) -> types.Transition:
  """With what a model needs, and blanks."""
  obs, action, next_obs = values
  blank: Any = np.zeros(obs.shape[:-1], obs.dtype)
  return types.Transition(
    obs, action, blank, next_obs, blank, blank, blank, blank
  )


def _env(run: saved_state.SavedState) -> envs.Environment:
  return envs.make(run.config.env.name, run.config.env.variant)


def _seconds(
  run: saved_state.SavedState,
  family: families.Family,
  tasks: families.Task,
  sizes: Sizes,
  key: jax.Array,
) -> float:
  """The median of several adaptations, compiled before."""
  algorithm: Any = run.algorithm
  task = jax.tree.map(lambda x: x[0], tasks)
  shown, _ = real.rollout(
    envs.fixed(family, task),
    algorithm.policy,
    algorithm.policy_params(run.state),
    key,
    num_envs=1,
    horizon=sizes.context,
    random_actions=True,
  )
  adapt = jax.jit(algorithm.adapt)
  jax.block_until_ready(adapt(run.state, shown, key))
  took = []
  for _ in range(_REPEATS):
    begun = time.perf_counter()
    jax.block_until_ready(adapt(run.state, shown, key))
    took.append(time.perf_counter() - begun)
  return statistics.median(took)
