"""Evaluation of policies in the real environment."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.envs import families
from mbmpo_jax.envs import tasked
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import real

Evaluate = Callable[[types.Params, jax.Array], types.Metrics]

# Numbers in the trajectories of one batch: 256 MiB in single precision.
_AT_ONCE = 2**26

METRICS = ('eval/return_mean', 'eval/return_std', 'eval/length_mean')


def make_evaluate(
  env: base.Environment,
  policy: policies.Policy,
  *,
  num_episodes: int,
  episode_length: int,
  greedy: bool = False,
  mesh: jax.sharding.Mesh | None = None,
) -> Evaluate:
  """Builds the evaluation of a policy.

  It estimates the quantity that papers plot: the undiscounted return of new
  episodes, each up to its termination or `episode_length`.

  Args:
    env: the real environment.
    policy: the policy.
    num_episodes: episodes, run in parallel.
    episode_length: steps after which an episode is truncated.
    greedy: whether the policy acts without noise; otherwise actions are
      sampled.
    mesh: devices over which the episodes are sharded.

  Returns:
    A jitted `(policy_params, key) -> metrics`; consumes the key. The metrics
    are `METRICS`, over the episodes.
  """

  def evaluate(policy_params: types.Params, key: jax.Array) -> types.Metrics:
    returns, lengths = _play(
      env,
      policy,
      policy_params,
      key,
      num_episodes=num_episodes,
      episode_length=episode_length,
      greedy=greedy,
      mesh=mesh,
    )
    values = (jnp.mean(returns), jnp.std(returns), jnp.mean(lengths))
    return dict(zip(METRICS, values, strict=True))

  return jax.jit(evaluate)


class OfTasks(NamedTuple):
  """Results of a policy in each of M tasks.

  Attributes:
    returns: mean return over a task's episodes, [M].
    lengths: mean length of them in steps, [M].
  """

  returns: jax.Array
  lengths: jax.Array


def make_evaluate_tasks(
  family: families.Family,
  policy: policies.Policy,
  *,
  num_episodes: int,
  episode_length: int,
  greedy: bool = False,
  tell_task: bool = False,
  adapt: Callable[..., tuple[types.Params, Any]] | None = None,
  num_transitions: int = 0,
) -> Callable[..., OfTasks]:
  """Builds the evaluation of a policy in several tasks, each held fixed.

  If the algorithm adapts, the policy first takes some steps in the task, in one
  environment, and `adapt` computes from them the parameters and the context for
  the evaluated episodes. Tasks are evaluated one after another, so that memory
  does not grow with M.

  Args:
    family: the task family.
    policy: the policy.
    num_episodes: episodes per task, run in parallel.
    episode_length: steps after which an episode is truncated.
    greedy: whether the policy acts without noise in the evaluated episodes.
    tell_task: whether the task is appended to the observation.
    adapt: `Algorithm.adapt`, or `None`.
    num_transitions: transitions of each task that `adapt` receives.

  Returns:
    A jitted `(params, tasks [M, ...], key, state) -> OfTasks`; consumes the
    key. `state` is the algorithm's state for `adapt`; without `adapt` it is
    ignored.
  """

  def of_task(
    params: types.Params, task: families.Task, key: jax.Array, state: Any
  ) -> OfTasks:
    env = tasked.fixed(family, task, tell_task=tell_task)
    context_key, adapt_key, key = jax.random.split(key, 3)
    context: Any = ()
    if adapt is not None:
      trajectory, _ = real.rollout(
        env,
        policy,
        params,
        context_key,
        num_envs=1,
        horizon=num_transitions,
        time_limit=episode_length,
      )
      params, context = adapt(state, trajectory, adapt_key)
    returns, lengths = _play(
      env,
      policy,
      params,
      key,
      num_episodes=num_episodes,
      episode_length=episode_length,
      greedy=greedy,
      context=context,
    )
    return OfTasks(jnp.mean(returns), jnp.mean(lengths))

  def evaluate(
    params: types.Params, tasks: families.Task, key: jax.Array, state: Any
  ) -> OfTasks:
    keys = jax.random.split(key, families.count(tasks))
    return jax.lax.map(
      lambda each: of_task(params, each[0], each[1], state), (tasks, keys)
    )

  return jax.jit(evaluate)


def _play(
  env: base.Environment,
  policy: policies.Policy,
  params: types.Params,
  key: jax.Array,
  *,
  num_episodes: int,
  episode_length: int,
  greedy: bool = False,
  context: Any = (),
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the returns and lengths of episodes, [N], in batches.

  A batch is as large as memory allows.
  """

  def of_some(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    trajectory, _ = real.rollout(
      env,
      policy,
      params,
      key,
      num_envs=count,
      horizon=episode_length,
      context=context,
      greedy=greedy,
      mesh=mesh,
    )
    return _first_returns(trajectory)

  # Approximate count of numbers per step in a trajectory.
  numbers = 2 * env.observation_size + 3 * env.action_size + 8
  count = max(_AT_ONCE // (episode_length * numbers), 1)
  if count >= num_episodes:
    return of_some(key, num_episodes)
  keys = jax.random.split(key, -(-num_episodes // count))
  found = jax.lax.map(lambda key: of_some(key, count), keys)
  return jax.tree.map(lambda x: x.reshape(-1)[:num_episodes], found)


def _first_returns(
  trajectory: types.Trajectory,
) -> tuple[jax.Array, jax.Array]:
  """Returns the returns and lengths of first episodes, [N]."""
  live = first_episode(trajectory)
  returns = jnp.sum(jnp.where(live, trajectory.reward, 0.0), 0)
  return returns, jnp.sum(live, 0)


def first_episode(trajectory: types.Trajectory) -> jax.Array:
  """Returns whether a step belongs to its rollout's first episode, bool [T, N].

  The terminating step does; steps after the first termination, which are
  another episode or padding, do not.
  """
  return (episodes.before(trajectory.terminated) == 0) & (trajectory.mask > 0)
