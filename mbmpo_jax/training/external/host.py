"""Phases that run on the host: data collection and evaluation.

All other phases are the algorithm's. The collected trajectory is given to the
algorithm by `Algorithm.add`.
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

# Purposes of the environment's seeds.
_COLLECTING, _EVALUATING = 0, 1


def check(algorithm: base.Algorithm, config: config_lib.Experiment) -> None:
  """Rejects an algorithm whose data cannot be collected outside it.

  Its first phase must collect whole episodes, so that `add` can replace it.

  Args:
    algorithm: the algorithm for this configuration.
    config: the experiment.

  Raises:
    config.ConfigError: one line.
  """
  collects = next(iter(algorithm.phases)) == base.COLLECT
  if collects and isinstance(config.collect, config_lib.Collect):
    return
  raise config_lib.ConfigError(
    f'algorithm {config.algorithm!r}: must be one that collects whole episodes'
    ' before it learns, such as mbmpo, me_trpo and mb_mpc, for an environment'
    ' outside JAX'
  )


def make(
  world: task_lib.World,
  env: elsewhere.Elsewhere,
  config: config_lib.Experiment,
  algorithm: base.Algorithm,
) -> iteration_lib.Host:
  """Makes the functions that replace the phase `collect` and the evaluation.

  Args:
    world: steps the real environment.
    env: the environment's sizes and task functions.
    config: the experiment.
    algorithm: the algorithm for both.
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
    # The key comes from the state, so every evaluation has other seeds.
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
  """Returns the state with its next key, the behaviour, and its key."""
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
  """Returns the metrics of the phase `collect`."""
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
