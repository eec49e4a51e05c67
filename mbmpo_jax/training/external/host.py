"""The phases of an algorithm that the host does: collecting, and evaluations.

All others are the algorithm's own. What it is handed is a trajectory, by
`Algorithm.add`, as if anybody had brought it.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import contract
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate as evaluate_lib
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training.external import task as task_lib

# What seeds of the world are for.
_COLLECTING, _EVALUATING = 0, 1


def check(algorithm: base.Algorithm, config: config_lib.Experiment) -> None:
  """Refuses an algorithm whose data cannot come from outside.

  It must collect whole episodes before it does anything else, so that `add`
  can do the same.

  Args:
    algorithm: for this configuration.
    config: of the experiment.

  Raises:
    config.ConfigError: one line.
  """
  collects = next(iter(algorithm.phases)) == base.COLLECT
  if collects and isinstance(config.collect, config_lib.Collect):
    return
  raise config_lib.ConfigError(
    f'algorithm {config.algorithm!r}: steps the world while it learns: must be'
    ' one that collects whole episodes first, as mbmpo, me_trpo and mb_mpc do,'
    ' for a world that is not JAX'
  )


def make(
  world: task_lib.World,
  env: elsewhere.Elsewhere,
  config: config_lib.Experiment,
  algorithm: base.Algorithm,
) -> iteration_lib.Host:
  """What `Iteration` calls in place of the phase `collect` and to evaluate.

  Args:
    world: moves.
    env: the same as a task.
    config: of the experiment.
    algorithm: for both.
  """
  add = jax.jit(algorithm.add, donate_argnums=0)

  @jax.jit
  def compare(trajectory: types.Trajectory) -> types.Metrics:
    rows, _, _ = real.to_transitions(trajectory, jnp.int32(0))
    return contract.differing(env, rows, jnp.ones_like(rows.reward))

  acting = jax.jit(functools.partial(_start_acting, algorithm))
  uniform = jax.jit(functools.partial(_start_acting, algorithm, random=True))

  def collect(state: Any) -> tuple[Any, types.Metrics]:
    iteration = int(state.counters.iteration)
    random = iteration == 0
    state, params, key = (uniform if random else acting)(state)
    trajectory = world.collect(
      task_lib.Behaviour(
        algorithm.policy,
        params,
        key,
        per_env=algorithm.behaviour is not None,
        random=random,
      ),
      num=config.collect.num_envs,
      horizon=config.collect.episode_length,
      seed=[config.seed, _COLLECTING, iteration],
    )
    state = add(state, trajectory)
    metrics: dict[str, Any] = dict.fromkeys(algorithm.metrics, math.nan)
    found = _describe(trajectory) | compare(trajectory)
    found['env_steps'] = state.counters.env_steps
    metrics |= {n: x for n, x in found.items() if n in metrics}
    return state, metrics

  def evaluate(params: types.Params, key: jax.Array) -> types.Metrics:
    # The key is the state's own: other seeds in every evaluation.
    word = int(np.asarray(jax.random.bits(key)))
    returns, lengths = world.play(
      task_lib.Behaviour(algorithm.policy, params, key),
      num=config.run.eval_episodes,
      horizon=config.collect.episode_length,
      seed=[config.seed, _EVALUATING, word],
    )
    values = (np.mean(returns), np.std(returns), np.mean(lengths))
    return {
      name: jnp.asarray(value, float)
      for name, value in zip(evaluate_lib.METRICS, values, strict=True)
    }

  return iteration_lib.Host({base.COLLECT: collect}, evaluate)


def _start_acting(
  algorithm: base.Algorithm, state: Any, *, random: bool = False
) -> tuple[Any, types.Params, jax.Array]:
  """The state with its next key, who acts, and the key of that."""
  counters = state.counters
  key, behaviour_key, act_key = jax.random.split(counters.key, 3)
  params: Any = ()
  if not random:
    params = (
      algorithm.policy_params(state)
      if algorithm.behaviour is None
      else algorithm.behaviour(state, behaviour_key)
    )
  return state._replace(counters=counters._replace(key=key)), params, act_key


def _describe(trajectory: types.Trajectory) -> dict[str, Any]:
  """What the phase `collect` reports."""
  ended = np.asarray(trajectory.ended)
  episodes = ended.sum()
  finite = masking.sound_rows(
    jax.tree.map(
      lambda x: x.reshape(-1, *x.shape[2:]),
      (trajectory.obs, trajectory.next_obs, trajectory.reward),
    )
  )
  return {
    'real_steps': float(ended.size),
    'real/return': trajectory.reward.sum() / episodes,
    'real/length': ended.size / episodes,
    'policy/saturated': np.mean(np.abs(trajectory.action) > 1),
    'nonfinite/transitions': float(np.sum(~np.asarray(finite))),
  }
