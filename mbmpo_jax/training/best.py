"""Selects the best policy of a run by re-evaluating candidates.

The highest of many evaluations is biased upwards. A policy whose evaluation
exceeds the best return so far is therefore evaluated again on other episodes.
Only the mean return of these further evaluations, which was not selected by
chance, is compared and saved, together with its standard error.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.training import evaluate as evaluate_lib

# Makes the evaluations' keys differ from those of the state: `fold_in(key, i)`
# equals `split(key, n)[i]`.
_EVALUATION = 0x6576616C
_ONCE_MORE = 0x6D6F7265
# Further evaluations of a policy whose first evaluation exceeds the best
# return; only these count. Steps of an environment outside JAX are expensive,
# so there is only one of them there.
_FURTHER, _FURTHER_ON_HOST = 4, 1


class Best(NamedTuple):
  """The best policy so far; fields as in `iteration.Saved`."""

  best_policy: types.Params
  best_return: jax.Array
  best_error: jax.Array
  best_iteration: jax.Array


class Contest(NamedTuple):
  """The current policy and the best policy so far, to be compared."""

  key: jax.Array  # the state's key, which is not consumed
  policy: types.Params
  best_policy: types.Params
  best_return: jax.Array
  best_error: jax.Array
  best_iteration: jax.Array


class _Sums(NamedTuple):
  """Sums over further evaluations."""

  mean: jax.Array
  square: jax.Array


def evaluate(
  play: evaluate_lib.Evaluate,
  contest: Contest,
  index: jax.Array,
  num_episodes: int,
) -> tuple[Best, types.Metrics]:
  """Evaluates the current policy and updates the best one.

  Args:
    play: the evaluation.
    contest: the current and the best policy.
    index: the index of the iteration.
    num_episodes: episodes per evaluation.

  Returns:
    The best policy, and the metrics of the current policy's first evaluation.
  """
  own_keys = jnp.stack(keys(contest.key, index, _FURTHER))

  def wanted(loop: Any) -> jax.Array:
    count, first, _ = loop
    better = first['eval/return_mean'] > contest.best_return  # NaN never is.
    return (count == 0) | (better & (count <= _FURTHER))

  def once_more(loop: Any) -> Any:
    # One loop body for all evaluations, so that the environment's step is
    # compiled once.
    count, first, sums = loop
    metrics = play(contest.policy, own_keys[count])
    first, sums = jax.tree.map(
      lambda new, old: jnp.where(count == 0, new, old),
      (metrics, sums),
      (first, _add(sums, metrics)),
    )
    return count + 1, first, sums

  shapes = jax.eval_shape(play, contest.policy, own_keys[0])
  blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  zero = jnp.zeros((), shapes['eval/return_mean'].dtype)
  count, metrics, sums = jax.lax.while_loop(
    wanted, once_more, (jnp.int32(0), blank, _Sums(zero, zero))
  )
  best = _better(contest, index, sums, _FURTHER, num_episodes)
  keep = count <= 1
  return jax.tree.map(
    lambda old, new: jnp.where(keep, old, new), Best(*contest[2:]), best
  ), metrics


def evaluate_on_host(
  play: evaluate_lib.Evaluate,
  contest: Contest,
  index: jax.Array,
  num_episodes: int,
) -> tuple[Best, types.Metrics]:
  """Like `evaluate`, for an evaluation that runs on the host."""
  first, *others = keys(contest.key, index, _FURTHER_ON_HOST)
  metrics = play(contest.policy, first)
  if not metrics['eval/return_mean'] > contest.best_return:
    return Best(*contest[2:]), metrics
  sums = _Sums(jnp.zeros(()), jnp.zeros(()))
  for key in others:
    sums = _add(sums, play(contest.policy, key))
  return _better(contest, index, sums, len(others), num_episodes), metrics


def keys(
  key: jax.Array, index: jax.Array | int, further: int = _FURTHER
) -> list[jax.Array]:
  """Returns the keys of an iteration's evaluation and of the further ones.

  Args:
    key: the state's key; it is folded, not consumed.
    index: the index of the iteration.
    further: number of further evaluations.
  """
  first, more = (
    jax.random.fold_in(jax.random.fold_in(key, word), index)
    for word in (_EVALUATION, _ONCE_MORE)
  )
  return [first, *jax.random.split(more, further)]


def _add(sums: _Sums, metrics: types.Metrics) -> _Sums:
  mean, std = metrics['eval/return_mean'], metrics['eval/return_std']
  return _Sums(sums.mean + mean, sums.square + mean**2 + std**2)


def _better(
  contest: Contest,
  index: jax.Array,
  sums: _Sums,
  further: int,
  num_episodes: int,
) -> Best:
  """Returns the current policy if its further evaluations are better."""
  mean = sums.mean / further
  variance = jnp.maximum(sums.square / further - mean**2, 0.0)
  count = further * num_episodes
  error = jnp.sqrt(variance / max(count - 1, 1))
  found = Best(contest.policy, mean, error, index)
  old = Best(*contest[2:])
  better = mean > contest.best_return  # NaN never is.
  return jax.tree.map(
    lambda new, old: jnp.where(better, new, old).astype(old.dtype), found, old
  )
