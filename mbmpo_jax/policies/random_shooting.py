"""Random shooting: the best of many uniformly sampled action sequences.

Nagabandi et al. 2017, section IV.C.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import planner


def make(
  space: spaces.ActionSpace, *, num_candidates: int, horizon: int
) -> planner.Search:
  """The search for `planner.make`; it has no memory."""

  def search(
    score: planner.ScoreFn, memory: Any, key: jax.Array, numbers: Any
  ) -> tuple[Any, jax.Array]:
    del numbers
    return memory, plan(
      score, key, space, num_candidates=num_candidates, horizon=horizon
    )

  return planner.Search(start=lambda: (), plan=search)


def plan(
  score: planner.ScoreFn,
  key: jax.Array,
  space: spaces.ActionSpace,
  *,
  num_candidates: int,
  horizon: int,
) -> jax.Array:
  """The sampled sequence with the highest return.

  Args:
    score: `(sequences [C, H, A], key) -> returns [C]`.
    key: consumed.
    space: the action space; actions are sampled uniformly.
    num_candidates: C.
    horizon: H.

  Returns:
    The best candidate, `[H, A]`; the first one if several are equal.

  Example:
    Two actions with the largest sum, from 1,000 samples:

    >>> key = jax.random.PRNGKey(0)
    >>> best = plan(
    ...   lambda sequences, key: sequences.sum((1, 2)),
    ...   key,
    ...   spaces.Box(1),
    ...   num_candidates=1000,
    ...   horizon=2,
    ... )
    >>> bool(best.sum() > 1.8)
    True
  """
  draw_key, score_key = jax.random.split(key)
  candidates = space.sample(draw_key, (num_candidates, horizon))
  returns = planner.worst_if_nan(score(candidates, score_key))
  return candidates[jnp.argmax(returns)]
