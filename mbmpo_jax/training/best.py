"""Which policy of a run is the best: one that is so twice.

The highest of many evaluations is high by chance. So a policy that does better
than the best so far is evaluated further, on other episodes, and only these
count: their mean is what it is compared by, with its standard error.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.training import evaluate as evaluate_lib

# Keeps evaluation's keys apart from the state's own: `fold_in(key, i)` equals
# `split(key, n)[i]`.
_EVALUATION = 0x6576616C
_ONCE_MORE = 0x6D6F7265
# Further evaluations of a policy that did better than the best: its luck is in
# the first, so that only these count. In a world that is not JAX, whose steps
# are dear, one is enough.
_FURTHER, _FURTHER_ON_HOST = 4, 1


class Best(NamedTuple):
  """The best policy so far, as in `Saved`."""

  best_policy: types.Params
  best_return: jax.Array
  best_error: jax.Array
  best_iteration: jax.Array


class Contest(NamedTuple):
  """What an evaluation compares: the policy of now with the best so far."""

  key: jax.Array  # the state's own, which stays unused
  policy: types.Params
  best_policy: types.Params
  best_return: jax.Array
  best_error: jax.Array
  best_iteration: jax.Array


class _Sums(NamedTuple):
  """Over further evaluations."""

  mean: jax.Array
  square: jax.Array


def evaluate(
  play: evaluate_lib.Evaluate,
  contest: Contest,
  index: jax.Array,
  num_episodes: int,
) -> tuple[Best, types.Metrics]:
  """The best policy once that of an iteration counts.

  Args:
    play: the evaluation.
    contest: the policy of now, and the best.
    index: of the iteration.
    num_episodes: of one evaluation.

  Returns:
    The best policy, and the metrics of the evaluation of now.
  """
  own_keys = jnp.stack(keys(contest.key, index, _FURTHER))

  def wanted(loop: Any) -> jax.Array:
    count, first, _ = loop
    better = first['eval/return_mean'] > contest.best_return  # NaN never is.
    return (count == 0) | (better & (count <= _FURTHER))

  def once_more(loop: Any) -> Any:
    # The same program for all: a world's steps are compiled once.
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
  """As `evaluate`, where the evaluation is no program."""
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
  """Those of an iteration's evaluation, and of so many further ones.

  Args:
    key: the state's own, which stays unused.
    index: of the iteration.
    further: how many.
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
  """The policy of now if its further evaluations are better, or the old."""
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
