"""Several policies that learn in one model; the best in imagination acts.

What a policy learns by a gradient through time in the model of a few episodes
may saturate it, and it then stays so. So some are learned side by side, as
PILCO restarts its optimiser, and from time to time all but the best are drawn
anew, in a model that knows more.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.algorithms import tally as tally_lib


class Learners(NamedTuple):
  """L of them."""

  each: Any  # leaves [L, ...]
  leader: jax.Array  # int32 [], the one that acts

  @property
  def best(self) -> Any:
    """The leader's leaves."""
    return jax.tree.map(lambda x: x[self.leader], self.each)


def init(
  draw: Callable[[jax.Array], Any], key: jax.Array, *, num: int
) -> Learners:
  """All of them drawn; the first leads.

  Args:
    draw: key -> a learner.
    key: consumed.
    num: L.
  """
  each = jax.vmap(draw)(jax.random.split(key, num))
  return Learners(each, jnp.zeros((), jnp.int32))


def restarted(
  learners: Learners,
  due: jax.Array,
  draw: Callable[[jax.Array], Any],
  key: jax.Array,
) -> Learners:
  """All but the leader drawn anew, where `due`.

  Args:
    learners: as they are.
    due: bool [].
    draw: key -> a learner.
    key: consumed.
  """
  num = jax.tree.leaves(learners.each)[0].shape[0]
  again = jnp.broadcast_to(due, (num,)) & (
    jnp.arange(num) != jnp.broadcast_to(learners.leader, (num,))
  )
  fresh = jax.vmap(draw)(jax.random.split(key, num))
  each = jax.tree.map(
    lambda new, old: jnp.where(
      broadcasting.trailing(again, old.ndim), new, old
    ),
    fresh,
    learners.each,
  )
  return learners._replace(each=each)


def learn(
  learners: Learners,
  update: Callable[[Any, jax.Array], tuple[Any, types.Metrics]],
  keys: jax.Array,
  *,
  metrics: tuple[str, ...],
  judged_by: str,
  sums: tuple[str, ...] = (),
) -> tuple[Learners, types.Metrics]:
  """Updates of all; the one that did best by its mean over them leads.

  Every learner has the same keys, and so the same contexts and starts.

  Args:
    learners: as they are.
    update: (learner, key) -> (learner, its metrics).
    keys: [N, 2], one per update; consumed.
    metrics: the names of what `update` returns.
    judged_by: the metric whose mean decides; NaN never leads.
    sums: metrics that are summed over updates; the others are means.

  Returns:
    The learners, and metrics: the leader's, but sums are of all learners.
  """
  num = jax.tree.leaves(learners.each)[0].shape[0]
  start = jax.vmap(lambda _: tally_lib.start(metrics))(jnp.arange(num))

  def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
    each, tallies = carry
    each, found = jax.vmap(lambda learner: update(learner, key))(each)
    return (each, jax.vmap(tally_lib.add)(tallies, found)), None

  (each, tallies), _ = jax.lax.scan(step, (learners.each, start), keys)
  found = jax.vmap(lambda tally: tally_lib.summary(tally, sums=sums))(tallies)
  value = found[judged_by]
  leader = jnp.argmax(jnp.where(jnp.isnan(value), -jnp.inf, value))
  reduced = {
    name: jnp.sum(values)
    if name in sums or name.startswith('nonfinite/')
    else values[leader]
    for name, values in found.items()
  }
  return Learners(each, leader.astype(jnp.int32)), reduced
