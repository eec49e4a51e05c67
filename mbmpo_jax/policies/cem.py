"""CEM: the cross-entropy method over action sequences, warm-started.

Per iteration, of C candidates drawn from a distribution that is independent
over steps and dimensions, the E best give the next one (Rubinstein 1999):

  Box        a ~ clip(N(mu, sigma^2));  mu' = mean of the elites, sigma' = their
             deviation, each mixed with the last one's by `smoothing`
  Discrete   a ~ p; p' = how often the elites choose each action, mixed the same

The deviation has a floor. In a `Discrete` space the same numbers are shares: a
share `init_std`, later `min_std`, of the choices is drawn uniformly. The plan
is mu, or the likeliest choices. The next step starts from it, one step on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import planner


class _Family(NamedTuple):
  """The distributions over sequences that CEM fits; a `mean` is [H, A].

  Attributes:
    draw: `(mean, spread, key, count) -> candidates [C, H, A]`.
    spread: elites [E, H, A] -> how far they are apart, [H, A].
  """

  draw: Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]
  spread: Callable[[jax.Array], jax.Array]


def make(
  space: spaces.ActionSpace,
  *,
  num_candidates: int,
  horizon: int,
  num_elites: int,
  num_iterations: int,
) -> planner.Search:
  """The search for `planner.make`; it remembers the last plan, one step on."""

  def search(
    score: planner.ScoreFn,
    memory: jax.Array,
    key: jax.Array,
    numbers: planner.Numbers,
  ) -> tuple[Any, jax.Array]:
    mean, sequence = plan(
      score,
      key,
      memory,
      space,
      num_candidates=num_candidates,
      num_elites=num_elites,
      num_iterations=num_iterations,
      init_std=numbers.init_std,
      min_std=numbers.min_std,
      smoothing=numbers.smoothing,
    )
    return shifted(mean, space), sequence

  return planner.Search(start=lambda: start(space, horizon), plan=search)


def start(space: spaces.ActionSpace, horizon: int) -> jax.Array:
  """The mean [H, A] at an episode's start: zero, or all choices alike."""
  if isinstance(space, spaces.Discrete):
    return jnp.full((horizon, space.size), 1 / space.size, float)
  return jnp.zeros((horizon, space.size))


def shifted(mean: jax.Array, space: spaces.ActionSpace) -> jax.Array:
  """`mean` [H, A] one step on; what follows its end begins as `start`."""
  return jnp.concatenate([mean[1:], start(space, 1)])


def draw(
  space: spaces.ActionSpace,
  mean: jax.Array,
  spread: jax.Array,
  key: jax.Array,
  *,
  count: int,
) -> jax.Array:
  """Candidates about a mean; consumes the key.

  Args:
    space: of the actions.
    mean: `[H, A]`; in a `Discrete` space, probabilities.
    spread: `[H, A]`, the deviation before actions are clipped, or the share of
      choices that is drawn uniformly.
    key: consumed.
    count: C.

  Returns:
    Sequences `[C, H, A]`, as the environment takes them.
  """
  return _family(space).draw(mean, spread, key, count)


def plan(
  score: planner.ScoreFn,
  key: jax.Array,
  mean: jax.Array,
  space: spaces.ActionSpace,
  *,
  num_candidates: int,
  num_elites: int,
  num_iterations: int,
  init_std: jax.Array | float,
  min_std: jax.Array | float,
  smoothing: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
  """Searches about a mean.

  Args:
    score: `(sequences [C, H, A], key) -> returns [C]`.
    key: consumed.
    mean: `[H, A]`; in a `Discrete` space, probabilities.
    space: of the actions.
    num_candidates: C.
    num_elites: E.
    num_iterations: rounds of candidates.
    init_std: deviation of the first round.
    min_std: least deviation of the others.
    smoothing: weight of the last distribution in the next one.

  Returns:
    The last mean `[H, A]`, and the sequence `[H, A]` that it stands for.

  Example:
    >>> _, best = plan(
    ...   lambda sequences, key: -((sequences - 0.3) ** 2).sum((1, 2)),
    ...   jax.random.PRNGKey(0),
    ...   jnp.zeros((4, 1)),
    ...   spaces.Box(1),
    ...   num_candidates=200,
    ...   num_elites=20,
    ...   num_iterations=10,
    ...   init_std=0.5,
    ...   min_std=0.0,
    ...   smoothing=0.0,
    ... )
    >>> bool(abs(best - 0.3).max() < 0.05)
    True
  """
  chex.assert_shape(mean, (None, space.size))
  family = _family(space)

  def iteration(state: Any, key: jax.Array) -> tuple[Any, None]:
    mean, spread = state
    draw_key, score_key = jax.random.split(key)
    candidates = family.draw(mean, spread, draw_key, num_candidates)
    returns = planner.worst_if_nan(score(candidates, score_key))
    elites = candidates[jax.lax.top_k(returns, num_elites)[1]]
    fitted = jnp.mean(elites, axis=0), family.spread(elites)
    mean, spread = jax.tree.map(
      lambda old, new: smoothing * old + (1 - smoothing) * new, state, fitted
    )
    return (mean, jnp.maximum(spread, min_std)), None

  first = mean, jnp.full(mean.shape, init_std, mean.dtype)
  (mean, _), _ = jax.lax.scan(
    iteration, first, jax.random.split(key, num_iterations)
  )
  return mean, space.project(mean)


def _family(space: spaces.ActionSpace) -> _Family:
  return _DISCRETE if isinstance(space, spaces.Discrete) else _BOX


def _draw_box(
  mean: jax.Array, std: jax.Array, key: jax.Array, count: int
) -> jax.Array:
  noise = jax.random.normal(key, (count, *mean.shape), mean.dtype)
  return jnp.clip(mean[None] + std[None] * noise, -1.0, 1.0)


def _draw_discrete(
  mean: jax.Array, uniform: jax.Array, key: jax.Array, count: int
) -> jax.Array:
  """One-hot vectors of `mean`, a share `uniform` of them of any choice."""
  share = jnp.minimum(uniform, 1.0)
  probabilities = (1 - share) * mean + share / mean.shape[-1]
  choices = jax.random.categorical(
    key, jnp.log(probabilities), shape=(count, mean.shape[0])
  )
  return jax.nn.one_hot(choices, mean.shape[-1], dtype=mean.dtype)


_BOX = _Family(
  draw=_draw_box,
  spread=lambda elites: jnp.std(elites, axis=0),
)
_DISCRETE = _Family(
  draw=_draw_discrete,
  # The probabilities themselves say how far apart the choices are.
  spread=lambda elites: jnp.zeros_like(elites[0]),
)
