"""Evaluates runs in unseen tasks, given a few transitions of each.

In each test task of an environment's family, for saved runs of GSSM and of the
methods that its paper compares (Wang & van Hoof 2022, tables 1, 2 and 6):

  error(C)   mean_n mean_o (E_k[s'_n - f(s_n, a_n, z_k(C))]_o / scale_o)^2,
             with contexts C of that task, of another one, and of fewer points
  return     of episodes after the algorithm has adapted to transitions, and of
             episodes without adaptation
  seconds    that this adaptation takes, once it is compiled

The transitions n and the contexts are the same for all runs (`task_pools.py`):
half are from random actions, half from one trained policy. The errors of two
models can thus be compared task by task. L2A's model has no context; it adapts
to the steps of the episode before n, or to those of an episode of another task.
"""

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
from mbmpo_jax.models import grbal
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate as surrogate_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate
from mbmpo_jax.training.figures import task_pools
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import saved_state

_FILE = 'unseen_tasks.json'
# Samples of z over which predictions are averaged (equation 11).
_DRAWS = 5
# Adaptations are timed this often, in each of the first tasks.
_REPEATS, _TIMED = 20, 10
# Raised whenever what is measured changes; older results are then not used.
_VERSION = 2
# A key that does not depend on the runs' seeds.
_SEED = 27


class Found(NamedTuple):
  """Results of one run; lists have one number per test task.

  Attributes:
    returns: mean returns of episodes, after adaptation.
    before: the same without adaptation; empty if nothing adapts.
    own: errors given transitions of the task; empty without a model.
    other: errors given transitions of another task.
    by_size: errors by the number of context points.
    seconds: duration of an adaptation, in the first tasks; empty if nothing
      adapts before an episode.
  """

  returns: list[float]
  before: list[float]
  own: list[float]
  other: list[float]
  by_size: dict[int, list[float]]
  seconds: list[float]


def errors(
  run: saved_state.SavedState,
  pools: task_pools.Pools,
  key: jax.Array,
  *,
  points: jax.Array | int,
  shift: jax.Array | int = 0,
  scale: jax.Array | float = 1.0,
) -> jax.Array:
  """Returns the model's error in every task, [M].

  Args:
    run: a run of `gssm`, with any of its models.
    pools: transitions of the test tasks.
    key: consumed.
    points: number of context points; the first of the pool's.
    shift: contexts are those of the task with index m + shift; 0 is the same
      task.
    scale: divides errors, [O] or a number.
  """
  config: Any = run.config
  env = task_pools.env_of(run)
  surrogate = surrogate_lib.make(env, config.model)
  model = jax.tree.map(lambda x: jnp.asarray(x[0]), run.state.model)
  chex.assert_rank([pools.targets.obs, pools.context.obs], [3, 3])
  room = pools.context.obs.shape[1]
  contexts = jax.tree.map(lambda x: jnp.roll(x, -shift, 0), pools.context)
  mask = (jnp.arange(room) < points).astype(float)
  scales = jnp.broadcast_to(jnp.asarray(scale, float), (env.observation_size,))

  def of_task(
    context: types.Transition, targets: types.Transition, key: jax.Array
  ) -> jax.Array:
    known = sets.of_transitions(
      context,
      mask,
      model_input=env.model_input,
      target=config.model.target,
      change=env.change,
    )

    def draw(key: jax.Array) -> jax.Array:
      start_key, key = jax.random.split(key)
      num = targets.obs.shape[0]
      carry = surrogate.dynamics.start(model, start_key, sets.live(known), num)
      _, found = surrogate.dynamics.predict(
        model, carry, targets.obs, targets.action, key
      )
      return env.change(targets.next_obs, found.next_obs)

    wrong = jnp.mean(jax.vmap(draw)(jax.random.split(key, _DRAWS)), 0)
    return jnp.mean(jnp.square(wrong / scales[None]))

  keys = jax.random.split(key, pools.num_tasks)
  return jax.lax.map(lambda x: of_task(*x), (contexts, pools.targets, keys))


def errors_of_l2a(
  run: saved_state.SavedState,
  pools: task_pools.Pools,
  *,
  shift: jax.Array | int = 0,
  scale: jax.Array | float = 1.0,
) -> jax.Array:
  """Returns the error of L2A's models, adapted before every prediction, [M].

  The prediction is the members' mean. Targets are in the order of their
  episodes, so that the targets before n are its window.

  Args:
    run: a run of `l2a`.
    pools: transitions of the test tasks.
    shift: windows are those of the task with index m + shift.
    scale: divides errors, [O] or a number.
  """
  config: Any = run.config
  env, steps = task_pools.env_of(run), config.adaptation.adapt_steps
  lib = grbal.make(
    env,
    config.model,
    adapt_steps=steps,
    inner_lr=config.adaptation.inner_lr,
    predict_reward=not env.reward_is_known,
  )
  model = jax.tree.map(jnp.asarray, run.state.model)
  scales = jnp.broadcast_to(jnp.asarray(scale, float), (env.observation_size,))
  contexts = jax.tree.map(lambda x: jnp.roll(x, -shift, 0), pools.targets)

  def of_task(
    context: types.Transition, targets: types.Transition
  ) -> jax.Array:
    num = context.obs.shape[0]
    # Whether a step continues the one before it.
    follows = jnp.all(context.obs == jnp.roll(context.next_obs, 1, 0), -1)
    follows = follows & (jnp.arange(num) > 0)

    def wrong(n: jax.Array) -> jax.Array:
      places = n - steps + jnp.arange(steps)
      # Steps of the window that are connected to the newest without a gap.
      joined = follows[jnp.maximum(places + 1, 0)] & (places >= 0)
      mask = jnp.cumprod(joined[::-1].astype(float))[::-1]
      rows = jnp.maximum(places, 0)
      window = history.Window(
        context.obs[rows], context.action[rows], jnp.zeros(steps), mask
      )
      after = lib.adapt(model, window, context.obs[n])
      found = jax.vmap(
        lambda member: lib.dynamics.predict(
          member,
          (),
          targets.obs[n][None],
          targets.action[n][None],
          jax.random.PRNGKey(0),
        )[1].next_obs[0]
      )(after)
      wrong = jax.vmap(env.change, (None, 0))(targets.next_obs[n], found)
      return jnp.mean(jnp.square(jnp.mean(wrong, 0) / scales))

    return jnp.mean(jax.lax.map(wrong, jnp.arange(num)))

  return jax.lax.map(lambda x: of_task(*x), (contexts, pools.targets))


def context_sizes(most: int) -> tuple[int, ...]:
  """Returns context sizes for the plot: 1, 2, 5, 10, ... up to `most`.

  Example:
    >>> context_sizes(50)
    (1, 2, 5, 10, 20, 50)
  """
  steps = [m * 10**e for e in range(6) for m in (1, 2, 5)]
  return (*(size for size in steps if size < most), most)


def measure(
  run: saved_state.SavedState,
  pools: task_pools.Pools | None,
  sizes: task_pools.Sizes,
) -> Found:
  """Measures a run.

  Args:
    run: the run.
    pools: transitions of the test tasks; `None` for a run without a model.
    sizes: sizes of the measurements.
  """
  family = envs.family_of(task_pools.env_of(run), run.config.algorithm)
  algorithm: Any = run.algorithm
  length = run.config.collect.episode_length
  # One task after another, to limit memory.
  play_key, error_key, adapt_key = jax.random.split(
    jax.random.PRNGKey(_SEED), 3
  )
  params = algorithm.policy_params(run.state)
  tasks = task_pools.test_tasks(family, sizes)

  def returns_of(adapt: Any) -> list[float]:
    play = evaluate.make_evaluate_tasks(
      family,
      algorithm.policy,
      num_episodes=sizes.episodes,
      episode_length=length,
      adapt=adapt,
      num_transitions=sizes.context,
    )
    found = play(params, tasks, play_key, run.state).returns
    return np.asarray(found).tolist()

  before: list[float] = []
  seconds: list[float] = []
  if algorithm.adapt is not None:
    before = returns_of(None)
    seconds = _seconds(run, family, tasks, sizes, adapt_key)
  own: list[float] = []
  other: list[float] = []
  by_size: dict[int, list[float]] = {}
  if pools is not None:
    scale: Any = 1.0
    if sizes.standardized:
      env = task_pools.env_of(run)
      change = env.change(pools.targets.obs, pools.targets.next_obs)
      scale = jnp.asarray(np.std(change, (0, 1))) + 1e-8

    # Half way along is a different task. A grid needs one step more, so that
    # it differs in both dimensions.
    away = pools.num_tasks // 2 + (sizes.seed is None and pools.num_tasks > 2)

    @jax.jit
    def of(points: jax.Array, shift: jax.Array) -> jax.Array:
      if run.config.algorithm == 'l2a':
        return errors_of_l2a(run, pools, shift=shift, scale=scale)
      return errors(
        run, pools, error_key, points=points, shift=shift, scale=scale
      )

    counts = context_sizes(sizes.context)
    if run.config.algorithm == 'l2a':
      counts = (sizes.context,)
    found = {count: np.asarray(of(count, 0)).tolist() for count in counts}
    own = found[sizes.context]
    other = np.asarray(of(sizes.context, away)).tolist()
    if len(counts) > 1:
      by_size = found
  returns = returns_of(algorithm.adapt)
  return Found(returns, before, own, other, by_size, seconds)


def kept(
  folder: pathlib.Path, pools: task_pools.Pools | None, sizes: task_pools.Sizes
) -> Found:
  """Returns the saved measurements of a run, or measures and saves them.

  They are valid as long as the run, the sizes, the pools and `_VERSION` are the
  same.

  Args:
    folder: the run's folder.
    pools: as for `measure`.
    sizes: as for `measure`.

  Raises:
    UserError: as `saved_state.load_state` does.
  """
  path = folder / _FILE
  newest = max(checkpoint.steps(folder / 'checkpoints'), default=None)
  of = {
    'version': _VERSION,
    'sizes': list(sizes),
    'pools': pools.digest if pools else '',
  }
  if path.is_file():
    tree = json.loads(path.read_text(encoding='utf-8'))
    if tree['of'] == of and newest in (None, tree['iteration']):
      found = Found(**{name: tree[name] for name in Found._fields})
      return found._replace(
        by_size={int(k): v for k, v in found.by_size.items()}
      )
  run = saved_state.load_state(folder)
  found = measure(run, pools, sizes)
  tree = {'iteration': run.iteration, 'of': of, **found._asdict()}
  atomic.write_output(path, (json.dumps(tree) + '\n').encode())
  return found


def _seconds(
  run: saved_state.SavedState,
  family: families.Family,
  tasks: families.Task,
  sizes: task_pools.Sizes,
  key: jax.Array,
) -> list[float]:
  """Returns the median duration of a compiled adaptation, in each task."""
  algorithm: Any = run.algorithm

  @jax.jit
  def explore(task: families.Task, key: jax.Array) -> types.Trajectory:
    return real.rollout(
      envs.fixed(family, task),
      algorithm.policy,
      algorithm.policy_params(run.state),
      key,
      num_envs=1,
      horizon=sizes.context,
      random_actions=True,
    )[0]

  adapt = jax.jit(algorithm.adapt)
  medians = []
  for index in range(min(_TIMED, families.count(tasks))):
    shown = explore(families.at(tasks, index), jax.random.fold_in(key, index))
    jax.block_until_ready(adapt(run.state, shown, key))
    took = []
    for _ in range(_REPEATS):
      begun = time.perf_counter()
      jax.block_until_ready(adapt(run.state, shown, key))
      took.append(time.perf_counter() - begun)
    medians.append(statistics.median(took))
  return medians
