"""Starts of imagined episodes, sampled from starts in the buffer.

This is for an environment without a known reset function
(`Environment.starts_are_known`), such as a robot. The model holds observations
at the starts of real episodes, chosen again in every fit. Imagined episodes
begin with one of these, chosen at random.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.envs import base as envs
from mbmpo_jax.models import base
from mbmpo_jax.models import statistics as statistics_lib

# Number of start observations that a model holds.
COUNT = 512


class Starts(NamedTuple):
  """Observations at the starts of episodes."""

  obs: jax.Array  # [R, O]
  found: jax.Array  # [] int32, number of valid rows, at least 1


class Model(NamedTuple):
  """A model and the starts; for all members, with a leading axis K."""

  inner: Any
  starts: Starts

  @property
  def low(self) -> jax.Array:
    """The inner model's lower bounds of observations [O]."""
    return self.inner.low

  @property
  def high(self) -> jax.Array:
    """The inner model's upper bounds of observations [O]."""
    return self.inner.high


def choose(
  obs: jax.Array, first: jax.Array, key: jax.Array, *, count: int
) -> Starts:
  """At most `count` rows where `first` is 1, uniform without replacement.

  Args:
    obs: `[B, O]`.
    first: `[B]`, 1. where a row is the start of an episode.
    key: consumed.
    count: R; if there are fewer starts, the remaining rows are zero.

  Example:
    >>> obs = jnp.arange(4.0)[:, None]
    >>> first = jnp.array([1.0, 0.0, 1.0, 0.0])
    >>> chosen = choose(obs, first, jax.random.PRNGKey(0), count=3)
    >>> int(chosen.found), sorted(chosen.obs[:2, 0].tolist())
    (2, [0.0, 2.0])
  """
  chex.assert_rank([obs, first], [2, 1])
  chex.assert_equal_shape_prefix([obs, first], 1)
  rank = jnp.where(first > 0, jax.random.uniform(key, first.shape), -1.0)
  _, rows = jax.lax.top_k(rank, min(count, first.shape[0]))
  found = jnp.sum(first > 0, dtype=jnp.int32)
  # Rows that are no starts may hold anything.
  chosen = jnp.where(jnp.arange(rows.shape[0])[:, None] < found, obs[rows], 0.0)
  return Starts(
    jnp.pad(chosen, ((0, count - rows.shape[0]), (0, 0))),
    jnp.clip(found, 1, rows.shape[0]),
  )


def remembering(
  dynamics: base.Dynamics, *, num_models: int, observation_size: int
) -> base.Dynamics:
  """The dynamics with starts of episodes sampled from the data.

  Args:
    dynamics: the functions of one member's model.
    num_models: K.
    observation_size: O.

  Returns:
    Dynamics whose `ready` reads `Statistics.starts`. Before there are data, all
    episodes start with zeros.
  """

  def ready(
    params: types.Params, statistics: statistics_lib.Statistics
  ) -> Model:
    starts = statistics.starts
    if starts is None:
      starts = Starts(jnp.zeros((COUNT, observation_size)), jnp.int32(1))
    return Model(
      dynamics.ready(params, statistics),
      jax.tree.map(
        lambda x: jnp.broadcast_to(x, (num_models, *x.shape)), starts
      ),
    )

  def start(model: Model, key: jax.Array, context: Any, num: int) -> Any:
    return dynamics.start(model.inner, key, context, num)

  def predict(
    model: Model, carry: Any, obs: jax.Array, env_action: jax.Array, key: Any
  ) -> tuple[Any, base.Prediction]:
    return dynamics.predict(model.inner, carry, obs, env_action, key)

  def perturb(model: Model, key: jax.Array) -> Model:
    assert dynamics.perturb is not None
    return model._replace(inner=dynamics.perturb(model.inner, key))

  def starts(model: Model, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    index = jax.random.randint(key, shape, 0, model.starts.found)
    return model.starts.obs[index]

  return dynamics._replace(
    ready=ready,
    start=start,
    predict=predict,
    perturb=None if dynamics.perturb is None else perturb,
    starts=starts,
  )


def among_seen(
  initial_obs: jax.Array, seen: jax.Array, key: jax.Array, *, count: int
) -> jax.Array:
  """Replaces the first `count` starts by states seen in real episodes.

  Args:
    initial_obs: the starts of rollouts, `[N, O]`.
    seen: observations from real episodes, `[S, O]`. If the one chosen is not
      finite, the start is kept.
    key: consumed.
    count: number of starts to replace.

  Returns:
    `[N, O]`.

  Example:
    >>> resets, seen = jnp.zeros((3, 1)), jnp.ones((5, 1))
    >>> among_seen(resets, seen, jax.random.PRNGKey(0), count=2)[:, 0].tolist()
    [1.0, 1.0, 0.0]
  """
  chex.assert_rank([initial_obs, seen], 2)
  chex.assert_equal_shape_suffix([initial_obs, seen], 1)
  chosen = seen[jax.random.randint(key, (count,), 0, seen.shape[0])]
  finite = jnp.all(jnp.isfinite(chosen), -1, keepdims=True)
  chosen = jnp.where(finite, chosen, initial_obs[:count])
  return initial_obs.at[:count].set(chosen)


def draw(
  env: envs.Environment,
  dynamics: base.Dynamics,
  model: Any,
  key: jax.Array,
  shape: tuple[int, ...],
) -> jax.Array:
  """Observations `[*shape, O]` at the starts of episodes; consumes `key`.

  Args:
    env: its starts are used, unless the dynamics have their own.
    dynamics: the functions of one member's model.
    model: of one member.
    key: consumed.
    shape: shape of the batch.
  """
  if dynamics.starts is not None:
    return dynamics.starts(model, key, shape)
  initial = env.initial_obs
  for _ in shape:
    initial = jax.vmap(initial)
  return initial(jax.random.split(key, shape))
