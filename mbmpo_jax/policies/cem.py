"""CEM: the cross-entropy method over action sequences, warm-started.

Every iteration samples C candidates from a distribution that is independent
over steps and dimensions. It then refits the distribution to the E candidates
with the highest returns, the elites (Rubinstein 1999):

  Box        a ~ clip(N(mu, sigma^2));  mu' and sigma' are the mean and standard
             deviation of the elites, mixed with mu and sigma by `smoothing`
  Discrete   a ~ p;  p' is the frequency of each action among the elites, mixed
             with p by `smoothing`

In a `Box` space sigma starts at `init_std` and is at least `min_std`. In a
`Discrete` space the same numbers are probabilities of sampling a choice
uniformly. This probability starts at `init_std`, is multiplied by `smoothing`
in every iteration, and is at least `min_std`. The plan is mu, or the most
probable choices. The search at the next step starts from this plan, shifted by
one step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import planner


class _Family(NamedTuple):
  """A family of distributions over sequences; a `mean` is [H, A].

  Attributes:
    draw: `(mean, spread, key, count) -> candidates [C, H, A]`.
    spread: elites [E, H, A] -> their spread, [H, A].
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
  """The search for `planner.make`; its memory is the shifted last plan."""

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
  """The mean [H, A] at an episode's start: zero, or uniform probabilities."""
  if isinstance(space, spaces.Discrete):
    return jnp.full((horizon, space.size), 1 / space.size, float)
  return jnp.zeros((horizon, space.size))


def shifted(mean: jax.Array, space: spaces.ActionSpace) -> jax.Array:
  """`mean` [H, A] shifted by one step; the new last step is as in `start`."""
  return jnp.concatenate([mean[1:], start(space, 1)])


def draw(
  space: spaces.ActionSpace,
  mean: jax.Array,
  spread: jax.Array,
  key: jax.Array,
  *,
  count: int,
) -> jax.Array:
  """Samples candidates around a mean.

  Args:
    space: the action space.
    mean: `[H, A]`; in a `Discrete` space, probabilities.
    spread: `[H, A]`, in a `Box` space the standard deviation before clipping;
      in a `Discrete` space the probability of a uniform choice.
    key: consumed.
    count: C.

  Returns:
    Sequences `[C, H, A]` of environment actions.
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
  """Searches for the action sequence with the highest score.

  Args:
    score: `(sequences [C, H, A], key) -> returns [C]`.
    key: consumed.
    mean: the initial mean, `[H, A]`; in a `Discrete` space, probabilities.
    space: the action space.
    num_candidates: C.
    num_elites: E.
    num_iterations: number of iterations.
    init_std: spread of the first iteration, see the module.
    min_std: least spread of later iterations.
    smoothing: weight of the previous distribution in the next one.

  Returns:
    The final mean `[H, A]`, and the plan `[H, A]`, which is the mean projected
    to the action space.

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
  """Choices sampled from `mean`, or with probability `uniform` uniformly."""
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
  # The spread of discrete choices is given by their probabilities.
  spread=lambda elites: jnp.zeros_like(elites[0]),
)
