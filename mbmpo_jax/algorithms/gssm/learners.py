"""Several policies that learn in one model; the best in imagination acts.

With a model of a few episodes, the gradient through time may saturate a policy,
which then does not recover. Therefore several policies learn in parallel, as
PILCO restarts its optimiser. From time to time all but the best are initialised
again, when the model has more data.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.algorithms import tally as tally_lib


class Learners(NamedTuple):
  """L learners."""

  each: Any  # leaves [L, ...]
  leader: jax.Array  # int32 [], index of the learner that acts

  @property
  def best(self) -> Any:
    """The leader."""
    return jax.tree.map(lambda x: x[self.leader], self.each)


def init(
  draw: Callable[[jax.Array], Any], key: jax.Array, *, num: int
) -> Learners:
  """L new learners, the first of which is the leader.

  Args:
    draw: key -> a new learner.
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
  """Initialises all learners but the leader again, if `due`.

  Args:
    learners: the current learners.
    due: bool [].
    draw: key -> a new learner.
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
  """Updates all learners; the one with the best mean becomes the leader.

  Every learner gets the same keys, and so the same contexts and starts.

  Args:
    learners: the current learners.
    update: (learner, key) -> (learner, metrics).
    keys: [N, 2], one per update; consumed.
    metrics: names of the metrics that `update` returns.
    judged_by: the metric whose mean selects the leader; NaN is never selected,
      and the leader stays if all are NaN.
    sums: metrics that are summed over updates; the others are averaged.

  Returns:
    The learners, and metrics: sums are over all learners, the others are the
    leader's.
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
  leader = jnp.where(
    jnp.all(jnp.isnan(value)),
    learners.leader,
    jnp.argmax(jnp.where(jnp.isnan(value), -jnp.inf, value)),
  )
  reduced = {
    name: jnp.sum(values)
    if name in sums or name.startswith('nonfinite/')
    else values[leader]
    for name, values in found.items()
  }
  return Learners(each, leader.astype(jnp.int32)), reduced
